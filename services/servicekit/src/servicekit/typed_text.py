"""What people type into forms: one rule for the service that takes it and the one that keeps it."""

import re

WITHOUT_CONTROLS = r"^[^\x00-\x08\x0a-\x1f\x7f]*$"
"""A pattern of text without control characters but tabs (RFC 6749 appendix A)."""


def holds_control(text: str) -> bool:
    """Tell whether a text has a control character other than a tab."""
    return re.fullmatch(WITHOUT_CONTROLS, text) is None
