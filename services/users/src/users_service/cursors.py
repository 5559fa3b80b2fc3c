"""Cursors: where a list goes on, sealed, so that clients neither read nor make them."""

import base64
import binascii
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from users_service.errors import InvalidCursor

_NONCE_BYTES = 12


class Cursors:
    """Seals positions with a key. A position may be an e-mail address, so it is not only signed."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def write(self, position: str, *, bound_to: str) -> str:
        """Return the cursor of a position in one list: that of the filters and the order `bound_to`."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = nonce + self._cipher.encrypt(nonce, position.encode(), bound_to.encode())
        return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode("ascii")

    def read(self, cursor: str, *, bound_to: str) -> str:
        """Return the position of a cursor.

        Raises:
            InvalidCursor: it is not one of ours, or that of another list.
        """
        try:
            sealed = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
            position = self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], bound_to.encode())
        except (binascii.Error, InvalidTag, ValueError):
            raise InvalidCursor from None
        return position.decode()
