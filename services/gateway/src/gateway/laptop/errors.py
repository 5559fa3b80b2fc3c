"""Why Pinhole does not run, in a sentence for whoever started it."""


class CannotStart(Exception):
    """The text says what is wrong, and what can be done about it."""
