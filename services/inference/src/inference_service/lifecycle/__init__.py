"""Models from their load to their end: versions, canaries and shadows, and whether they answer."""
