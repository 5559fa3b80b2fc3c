"""What goes on in Pinhole on a laptop, to look at: traces and metrics, with no collector. Loopback alone reaches it."""
