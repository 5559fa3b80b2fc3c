"""User names and e-mail addresses."""

import pytest
from pydantic import TypeAdapter, ValidationError
from users_service.identifiers import Email, canonical_email, canonical_username, normalize_email


def test_user_names_are_compared_without_case_and_width() -> None:
    assert canonical_username("Ada.L") == canonical_username("\uff21da.l") == "ada.l"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Ada@Example.COM", "ada@example.com"),
        ("ada@xn--mnchen-3ya.de", "ada@MÜNCHEN.de"),
        ("jose\u0301@example.com", "JOS\u00c9@example.com"),
        ("STRAẞE@example.com", "straße@example.com"),
        ("ΟΔΟΣ@example.com", "οδος@example.com"),
        ("İ@example.com", "i\u0307@example.com"),
    ],
)
def test_spellings_of_one_address_are_compared_as_one(one: str, other: str) -> None:
    assert canonical_email(normalize_email(one)) == canonical_email(normalize_email(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ada.l@example.com", "adal@example.com"),
        ("strasse@example.com", "straße@example.com"),
        ("ada@strasse.de", "ada@straße.de"),
        ("ada@οδοσ.gr", "ada@οδος.gr"),
        ("ﬁn@example.com", "fin@example.com"),
    ],
)
def test_different_mailboxes_stay_different(one: str, other: str) -> None:
    assert canonical_email(normalize_email(one)) != canonical_email(normalize_email(other))


@pytest.mark.parametrize("email", ["", "ada", "ada@", "@example.com", "ada@localhost", "a b@example.com", "a@b@c.com"])
def test_what_is_no_address_is_refused(email: str) -> None:
    with pytest.raises(ValueError):
        normalize_email(email)


def test_an_address_that_is_too_long_is_refused_before_it_is_normalized() -> None:
    with pytest.raises(ValidationError, match="at most 254 characters"):
        TypeAdapter(Email).validate_python("a" + "\u0300\u0316" * 10_000 + "@example.com")
