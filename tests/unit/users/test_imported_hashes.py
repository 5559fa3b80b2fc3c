"""Hashes of other software: which are taken, and that they let in."""

import base64
import hashlib

import pytest
from users_service.imported_hashes import check_importable
from users_service.passwords import open_passwords

from tests.unit.users.driver import PASSWORD

BCRYPT = "$2b$12$" + "a" * 21 + "e" + "a" * 31
ARGON2 = "$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHQ$" + "A" * 43


def django(password: str, iterations: int = 1000) -> str:
    digest = hashlib.pbkdf2_hmac("sha256", password.encode(), b"salt", iterations)
    return f"pbkdf2_sha256${iterations}$salt${base64.b64encode(digest).decode()}"


@pytest.mark.parametrize(
    "hash",
    [
        BCRYPT,
        BCRYPT.replace("2b", "2y"),
        BCRYPT.replace("$12$", "$14$"),
        ARGON2,
        ARGON2.replace("id", "i"),
        ARGON2.replace("t=3,p=4", "t=10,p=8"),
        ARGON2.replace("t=3,p=4", "t=1,p=1"),
        django("x"),
    ],
)
def test_a_hash_of_a_known_kind_is_taken(hash: str) -> None:
    assert check_importable(hash) == hash


@pytest.mark.parametrize(
    ("hash", "reason"),
    [
        ("", "is not a hash"),
        (PASSWORD, "is not a hash"),
        ("5f4dcc3b5aa765d61d8327deb882cf99", "is not a hash"),
        (BCRYPT + "\n", "is not a hash"),
        (BCRYPT.replace("$12$", "$03$"), "is not a hash"),  # bcrypt itself takes none of these three
        (BCRYPT.replace("$12$", "$1\u0662$"), "is not a hash"),
        ("$2b$12$" + "a" * 53, "is not a hash"),
        (BCRYPT.replace("$12$", "$15$"), "takes more work"),
        (ARGON2.replace("m=65536", "m=65537"), "takes more work"),
        (ARGON2.replace("t=3", "t=11"), "takes more work"),
        (ARGON2.replace("p=4", "p=0"), "takes more work"),
        (django("x").replace("$1000$", "$2000001$"), "takes more work"),
        (django("x").replace("$salt$", "$sa\0lt$"), "is not a hash"),  # PostgreSQL keeps no text with one
        ("$argon2id$" + "A" * 300, "more than 255"),
    ],
)
def test_another_is_refused_and_not_repeated(hash: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as refused:
        check_importable(hash)
    assert not hash or hash not in str(refused.value)


async def test_a_hash_of_django_lets_in_once_and_is_replaced() -> None:
    with open_passwords(workers=1, queue_size=0) as passwords:
        assert not (await passwords.verify("wrong", django(PASSWORD))).is_right
        verdict = await passwords.verify(PASSWORD, django(PASSWORD))
        assert verdict.is_right
        assert verdict.upgraded_hash is not None
        assert verdict.upgraded_hash.startswith("$argon2id$")
