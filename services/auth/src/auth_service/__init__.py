"""Issues Pinhole's tokens and owns its signing keys."""
