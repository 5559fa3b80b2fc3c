"""The whole of Pinhole on one machine: the command that starts it, watches it and stops it."""
