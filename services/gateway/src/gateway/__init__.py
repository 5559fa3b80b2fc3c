"""One origin for Pinhole's services on a laptop, and the command that starts them."""
