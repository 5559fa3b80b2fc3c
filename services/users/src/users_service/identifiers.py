"""What an account is known by: user names and e-mail addresses, as typed and as compared."""

import unicodedata
from typing import Annotated

from email_validator import validate_email
from pydantic import AfterValidator, Field


def normalize_email(email: str) -> str:
    """Return an address in its one spelling: NFC, the domain in lower case and decoded.

    Raises:
        ValueError: it is not of the form of an address, or its domain is reserved.
    """
    # No look-up of the domain. `test_environment` takes `.test`, the reserved name meant for use.
    return validate_email(email, check_deliverability=False, test_environment=True).normalized


def canonical_username(username: str) -> str:
    """Return what two spellings of one user name have in common."""
    return unicodedata.normalize("NFKC", username).casefold()


def canonical_email(email: str) -> str:
    """Return what two spellings of one normalized address have in common.

    Not NFKC, and no letter becomes two as "ß" does: both would join addresses that a mail server may
    keep apart. A domain is in lower case, where a final sigma, too, makes it another one (RFC 5894).
    """
    local, at, domain = email.rpartition("@") if "@" in email else (email, "", "")
    return unicodedata.normalize("NFC", "".join(map(_fold, local)) + at + domain.lower())


def _fold(character: str) -> str:
    folded = character.casefold()
    return folded if len(folded) == 1 else character.lower()


def canonical_full_name(full_name: str) -> str:
    """Return what two spellings of one name of a person have in common, for who looks for it."""
    return unicodedata.normalize("NFKC", full_name).casefold()


def canonical_login(login: str) -> str:
    """Return what two spellings have in common that somebody signs in with: a user name, or an address with its `@`."""
    if "@" not in login:
        return canonical_username(login)
    try:
        return canonical_email(normalize_email(login))
    except ValueError:
        return canonical_email(login)  # nobody's


# ASCII alone: no two names look the same, and none can be taken for an address.
Username = Annotated[
    str,
    Field(
        min_length=3,
        max_length=64,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="Letters, digits, `.`, `_` and `-`. Case is kept, and makes no difference.",
        examples=["john_doe"],
    ),
]

# The length comes first: NFC takes time that grows with its square.
Email = Annotated[
    str,
    Field(
        max_length=254,
        json_schema_extra={"format": "email"},
        description="Case is kept, and makes no difference.",
        examples=["john.doe@example.com"],
    ),
    AfterValidator(normalize_email),
]
