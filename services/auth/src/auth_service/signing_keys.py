"""The keys that sign access tokens, as one process holds them: which one signs now, which ones verify."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from servicekit.database import utc_now
from servicekit.token_form import Algorithm
from servicekit.tokens import PublicKey, SigningKey

from auth_service.errors import SigningKeyUnreadable

KeyState = Literal["published", "active", "retiring", "over"]
"""Known to all and signing later; signing; signing no more, but tokens that it has signed live; of no use."""


@dataclass(frozen=True, slots=True)
class KeyTimes:
    """When a key was made, and from when on it signs: until another one does."""

    id: str
    algorithm: Algorithm
    created_at: datetime
    active_from: datetime


@dataclass(frozen=True, slots=True)
class RingKey:
    """A key and its times: what of it could be read here."""

    times: KeyTimes
    public_document: dict[str, str] | None
    """Its JWK. None where a service of the version before has stored the key, and nobody has opened it since."""

    signing_key: SigningKey | None
    """None where it is sealed with what is not here: others sign with it, and what they sign is good."""


def states(keys: Sequence[KeyTimes], now: datetime, *, overlap: timedelta) -> dict[str, KeyState]:
    """Return the state of each key at a time.

    Nothing but the clock moves a key on, so that all replicas change at the same moment without a
    word. `overlap` is how long a token outlives the change of its key.
    """
    result: dict[str, KeyState] = {}
    replaced_at: datetime | None = None
    for key in sorted(keys, key=lambda key: (key.active_from, key.id), reverse=True):
        if key.active_from > now:
            result[key.id] = "published"
            continue
        if replaced_at is None:
            result[key.id] = "active"
        else:
            result[key.id] = "retiring" if now < replaced_at + overlap else "over"
        replaced_at = key.active_from
    return result


class KeyRing:
    """The keys of now. Who follows the database replaces them."""

    def __init__(self, keys: Sequence[RingKey], *, overlap: timedelta) -> None:
        """Take at least one key."""
        self._public_keys: dict[str, PublicKey] = {}
        self.replace(keys, overlap=overlap)

    def replace(self, keys: Sequence[RingKey], *, overlap: timedelta) -> None:
        """Hold `keys` from now on, at least one of them."""
        self._overlap = overlap
        self._keys = {key.times.id: key for key in sorted(keys, key=lambda key: (key.times.active_from, key.times.id))}
        # The same objects for the same keys: what a verifier remembers is of one of them.
        self._public_keys = {
            key_id: self._public_keys.get(key_id) or PublicKey(key.public_document)
            for key_id, key in self._keys.items()
            if key.public_document is not None
        }

    @property
    def current(self) -> SigningKey:
        """The key that signs now.

        Raises:
            SigningKeyUnreadable: it cannot be opened here. No other one may sign for it: what it has
                signed would be refused as soon as the others have given it up.
        """
        signing_key = self._current.signing_key
        if signing_key is None:
            raise SigningKeyUnreadable
        return signing_key

    @property
    def can_sign(self) -> bool:
        """Whether the key that signs now could be opened here."""
        return self._current.signing_key is not None

    @property
    def created_at(self) -> datetime:
        """When the key was made that signs now."""
        return self._current.times.created_at

    @property
    def key_ids(self) -> list[str]:
        """The keys that verify now; a token of any other one is dead."""
        current = self._states()
        return [key_id for key_id in self._keys if current[key_id] != "over"]

    @property
    def public_documents(self) -> list[dict[str, str]]:
        """The JWK of each key that verifies now or soon."""
        documents = (self._keys[key_id].public_document for key_id in self.key_ids)
        return [document for document in documents if document is not None]

    async def get(self, key_id: str) -> PublicKey | None:
        """Return the key of a token that we may have signed, as `TokenVerifier` asks for it."""
        return self._public_keys.get(key_id)

    @property
    def _current(self) -> RingKey:
        active = [key_id for key_id, state in self._states().items() if state == "active"]
        # A replica with a clock ahead of ours may have made the first key in our future.
        return self._keys[active[0] if active else next(iter(self._keys))]

    def _states(self) -> dict[str, KeyState]:
        return states([key.times for key in self._keys.values()], utc_now(), overlap=self._overlap)
