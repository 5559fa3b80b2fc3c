"""Password hashes that other software has made: verified once at sign-in, and replaced by our own then."""

import base64
import hashlib
import hmac
import re
from typing import NoReturn

from pwdlib.hashers.bcrypt import BcryptHasher

_BCRYPT_MAX_BYTES = 72
# Cost, 128 bits of salt, of which the last character has two, and the hash.
_BCRYPT = re.compile(r"\$2[aby]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}")
_ARGON2 = re.compile(
    r"\$argon2(?:id|i|d)\$v=19\$m=(\d+),t=(\d+),p=(\d+)\$[A-Za-z0-9+/]{8,}\$[A-Za-z0-9+/]{16,}", re.ASCII
)
_PBKDF2 = re.compile(r"pbkdf2_sha256\$(\d+)\$([^$\0]{1,64})\$([A-Za-z0-9+/]{43}=)", re.ASCII)

MAX_LENGTH = 255
MAX_BCRYPT_ROUNDS = 14
MAX_ARGON2_KIB, MAX_ARGON2_PASSES, MAX_ARGON2_LANES = 64 * 1024, 10, 8
MAX_PBKDF2_ITERATIONS = 2_000_000


class ImportedBcrypt(BcryptHasher):
    """bcrypt as those wrote it whose hashes we take over: it sees the first 72 bytes.

    Newer versions of the library refuse a longer password instead.
    """

    def verify(self, password: str | bytes, hash: str | bytes) -> bool:
        """Tell whether the beginning of `password` has this hash."""
        return super().verify(_encode(password)[:_BCRYPT_MAX_BYTES], hash)


class ImportedPbkdf2:
    """Django's `pbkdf2_sha256`, to be verified only."""

    @classmethod
    def identify(cls, hash: str | bytes) -> bool:
        """Tell whether it is a hash of this kind."""
        return _PBKDF2.fullmatch(_encode(hash).decode()) is not None

    def hash(self, password: str | bytes, *, salt: bytes | None = None) -> NoReturn:
        """Refuse: new hashes are argon2id."""
        raise NotImplementedError

    def verify(self, password: str | bytes, hash: str | bytes) -> bool:
        """Tell whether `password` has this hash."""
        match = _PBKDF2.fullmatch(_encode(hash).decode())
        assert match is not None, "identified before"
        iterations, salt, digest = match.groups()
        computed = hashlib.pbkdf2_hmac("sha256", _encode(password), salt.encode(), int(iterations))
        return hmac.compare_digest(computed, base64.b64decode(digest))

    def check_needs_rehash(self, hash: str | bytes) -> bool:
        """Tell that each is to be replaced."""
        return True


def check_importable(hash: str) -> str:
    """Return a hash that can be verified here, at a cost that no sign-in may pass.

    Raises:
        ValueError: it is of another kind, or too costly; the message does not repeat it.
    """
    if len(hash) > MAX_LENGTH:
        raise ValueError(f"has more than {MAX_LENGTH} characters")
    limits: tuple[int, ...]
    if match := _BCRYPT.fullmatch(hash):
        limits = (MAX_BCRYPT_ROUNDS,)
    elif match := _ARGON2.fullmatch(hash):
        limits = (MAX_ARGON2_KIB, MAX_ARGON2_PASSES, MAX_ARGON2_LANES)
    elif match := _PBKDF2.fullmatch(hash):
        limits = (MAX_PBKDF2_ITERATIONS,)
    else:
        raise ValueError("is not a hash of argon2, bcrypt or Django's pbkdf2_sha256")
    if any(not 0 < int(cost) <= limit for cost, limit in zip(match.groups(), limits, strict=False)):
        raise ValueError("takes more work than a sign-in may")
    return hash


def _encode(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text
