"""What may be granted to whom."""

import re
from collections.abc import Iterable

from servicekit.auth import SCOPES

from auth_service.errors import InvalidScope

ROLE_SCOPES = {
    "user": frozenset({"inference:predict", "profile"}),
    "admin": frozenset(SCOPES),
}

ACCOUNT_SCOPES = frozenset({"profile"})
"""What only somebody with an account can do; a client itself has none."""

_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+( [\x21\x23-\x5b\x5d-\x7e]+)*")  # RFC 6749 section 3.3


def parse_scope(value: str | None) -> frozenset[str] | None:
    """Return the scopes that a request asks for, or None where it leaves that to us.

    Raises:
        InvalidScope: it is malformed.
    """
    if value is None:
        return None
    if not _SCOPE.fullmatch(value):
        raise InvalidScope("scope is malformed")
    return frozenset(value.split(" "))


def scopes_of(roles: Iterable[str]) -> frozenset[str]:
    """Return what `roles` may do together; a role that is not known here adds nothing."""
    return frozenset().union(*(ROLE_SCOPES.get(role, frozenset()) for role in roles))


def narrow(allowed: frozenset[str], requested: frozenset[str] | None) -> frozenset[str]:
    """Return what of `allowed` is asked for: all of it where nothing is named.

    Raises:
        InvalidScope: that is nothing.
    """
    granted = allowed if requested is None else allowed & requested
    if not granted:
        raise InvalidScope("nothing of that scope can be granted")
    return granted
