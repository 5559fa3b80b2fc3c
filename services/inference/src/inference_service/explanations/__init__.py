"""What in a picture speaks for its class."""
