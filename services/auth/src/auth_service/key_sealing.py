"""Private keys at rest: sealed with a key of the settings, where there is one."""

from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

_SEALED = "fernet:"


class UnreadableKey(Exception):
    """A stored private key is sealed, and not with a key that is here."""


class KeySealing:
    """Seals with the first of its Fernet keys and opens with each; without any, keys are stored as they are."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._fernet = MultiFernet([Fernet(key) for key in keys]) if keys else None

    def seal(self, pem: str) -> str:
        """Return what is stored of a private key."""
        return pem if self._fernet is None else _SEALED + self._fernet.encrypt(pem.encode("ascii")).decode("ascii")

    def open(self, stored: str) -> str:
        """Return the private key; one that was stored before there was a key to seal with is as it is.

        Raises:
            UnreadableKey: it is sealed with a key that is not here.
        """
        if not stored.startswith(_SEALED):
            return stored
        if self._fernet is None:
            raise UnreadableKey("a signing key is sealed, and AUTH_KEY_ENCRYPTION_KEYS is empty")
        try:
            return self._fernet.decrypt(stored.removeprefix(_SEALED)).decode("ascii")
        except InvalidToken:
            raise UnreadableKey("a signing key is sealed with none of AUTH_KEY_ENCRYPTION_KEYS") from None
