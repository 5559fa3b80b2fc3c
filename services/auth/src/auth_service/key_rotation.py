"""The life of signing keys, in the database: published, activated, retired, revoked, removed."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import cast

from servicekit.database import Database, utc_now
from servicekit.logs import get_audit_log, get_logger
from servicekit.token_form import Algorithm
from servicekit.tokens import SigningKey
from sqlalchemy import Row, delete, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from auth_service.access_tokens import SERVICE_TOKEN_SECONDS
from auth_service.errors import SigningKeyNotFound, SigningKeyReplaced
from auth_service.key_sealing import KeySealing, UnreadableKey
from auth_service.sessions import longest_lifetime
from auth_service.settings import AuthSettings
from auth_service.signing_keys import KeyTimes, RingKey, states
from auth_service.tables import SigningKeyRow

CLOCK_MARGIN = timedelta(minutes=1)
"""A replica whose clock is behind signs for so long with the key before."""

REVOKED_KEPT = timedelta(days=30)
"""So long is it known that a key was revoked. Its private half is erased at once."""

log = get_logger(__name__)
audit = get_audit_log()


class SigningKeys:
    """The stored keys. Each change is one transaction that no other one runs beside."""

    def __init__(
        self,
        database: Database,
        *,
        algorithm: Algorithm,
        publish_for: timedelta,
        token_seconds: int,
        sealing: KeySealing,
    ) -> None:
        """Take how long a key is `publish`ed before it signs, and tokens live that are made now."""
        self._database = database
        self._algorithm = algorithm
        self._publish_for = publish_for
        self._sealing = sealing
        self._known: dict[str, RingKey] = {}
        self._token_seconds = token_seconds
        self.overlap = timedelta(seconds=token_seconds) + CLOCK_MARGIN
        """How long tokens outlive the change of their key, as the keys were read last."""

    async def list_times(self) -> list[KeyTimes]:
        """Return the keys that were not revoked, without their secrets."""
        async with self._database.begin() as transaction:
            return await self._read_times(transaction)

    async def load(self) -> list[RingKey]:
        """Return the keys that were not revoked; what is known of one before is not read again."""
        async with self._database.begin() as transaction:
            times = await self._read_times(transaction)
            known = {key_id: key for key_id, key in self._known.items() if key.public_document is not None}
            if unknown := {key.id for key in times} - known.keys():
                for row in await transaction.scalars(select(SigningKeyRow).where(SigningKeyRow.id.in_(unknown))):
                    known[row.id] = await self._read(row)
        self._known = {key.id: replace(known[key.id], times=key) for key in times}
        return [*self._known.values()]

    async def ensure(self) -> None:
        """Make the first key, or publish one where the newest is not of the set algorithm."""
        await self._add(lambda keys: not keys, active_in=timedelta(0))
        await self._add(lambda keys: max(keys, key=_age).algorithm != self._algorithm, active_in=self._publish_for)

    async def publish(self, *, active_in: timedelta | None = None) -> str:
        """Make a key that signs after `active_in`, by default when every cache knows it, and return its id."""
        active_in = self._publish_for if active_in is None else active_in
        key_id = await self._add(lambda _keys: True, active_in=active_in)
        assert key_id is not None
        return key_id

    async def rotate_if_older(self, period: timedelta) -> None:
        """Publish a key where the newest one was made a `period` ago, whichever replica is first."""
        await self._add(lambda keys: utc_now() - max(keys, key=_age).created_at >= period, active_in=self._publish_for)

    async def activate(self, key_id: str) -> None:
        """Let a key that is published sign from now on; one that signs already goes on.

        Raises:
            SigningKeyNotFound: there is none of that id.
            SigningKeyReplaced: it has signed before, and another one does since.
        """
        async with self._locked() as transaction:
            row = await _get(transaction, key_id)
            now = utc_now()
            match states(await self._read_times(transaction), now, overlap=self.overlap)[key_id]:
                case "published":
                    row.active_from = now
                    audit.info("signing_key_activated", key_id=key_id)
                case "retiring" | "over":
                    raise SigningKeyReplaced

    async def revoke(self, key_id: str) -> None:
        """Give a key up at once, with every token that it has signed, and erase its private half.

        Where it was the one that signs, or none is due yet, one that is published takes its place, else a new one.

        Raises:
            SigningKeyNotFound: there is none of that id.
        """
        spare = await asyncio.to_thread(SigningKey.generate, self._algorithm)
        async with self._locked() as transaction:
            row = await _get(transaction, key_id)
            keys = await self._read_times(transaction)
            before = states(keys, utc_now(), overlap=self.overlap)
            now = row.revoked_at = utc_now()
            row.private_pem = ""
            if before.pop(key_id) == "active" or "active" not in before.values():
                published = [other for other, state in before.items() if state == "published"]
                if published:
                    (await _get(transaction, published[-1])).active_from = now
                else:
                    self._store(transaction, spare, now)
        audit.warning("signing_key_revoked", key_id=key_id)

    async def remove_over(self) -> None:
        """Forget keys of which no token lives any more."""
        async with self._locked() as transaction:
            now = utc_now()
            keys = await self._read_times(transaction)
            current = states(keys, now, overlap=self.overlap)
            over = [key_id for key_id, state in current.items() if state == "over"]
            await transaction.execute(delete(SigningKeyRow).where(SigningKeyRow.id.in_(over)))
            await transaction.execute(delete(SigningKeyRow).where(SigningKeyRow.revoked_at < now - REVOKED_KEPT))
        for key_id in over:
            audit.info("signing_key_removed", key_id=key_id)

    async def _add(self, is_needed: Callable[[Sequence[KeyTimes]], bool], *, active_in: timedelta) -> str | None:
        """Store a new key where one is needed, and return its id."""
        if not is_needed(await self.list_times()):
            return None
        # Outside the transaction: an RSA key takes a while.
        key = await asyncio.to_thread(SigningKey.generate, self._algorithm)
        async with self._locked() as transaction:
            if not is_needed(await self._read_times(transaction)):
                return None  # another replica was faster
            self._store(transaction, key, utc_now() + active_in)
        audit.info("signing_key_created", key_id=key.key_id, algorithm=key.algorithm)
        return key.key_id

    async def _read(self, row: SigningKeyRow) -> RingKey:
        try:
            pem = self._sealing.open(row.private_pem)
        except UnreadableKey as unreadable:
            if row.id not in self._known:
                log.error("signing_key_unreadable", key_id=row.id, reason=str(unreadable))  # noqa: TRY400
            return RingKey(_times(row), row.public_jwk, None)
        # Checking an RSA key takes 40 ms.
        key = await asyncio.to_thread(SigningKey, pem, cast(Algorithm, row.algorithm))
        if row.public_jwk is None:
            row.public_jwk = key.public_document
        return RingKey(_times(row), key.public_document, key)

    def _store(self, transaction: AsyncSession, key: SigningKey, active_from: datetime) -> None:
        transaction.add(
            SigningKeyRow(
                id=key.key_id,
                algorithm=key.algorithm,
                private_pem=self._sealing.seal(key.pem),
                public_jwk=key.public_document,
                created_at=utc_now(),
                active_from=active_from,
            )
        )

    async def _read_times(self, transaction: AsyncSession) -> list[KeyTimes]:
        self.overlap = await longest_lifetime(transaction, at_least_seconds=self._token_seconds) + CLOCK_MARGIN
        columns = (SigningKeyRow.id, SigningKeyRow.algorithm, SigningKeyRow.created_at, SigningKeyRow.active_from)
        rows = await transaction.execute(select(*columns).where(SigningKeyRow.revoked_at.is_(None)))
        return [_times(row) for row in rows]

    @asynccontextmanager
    async def _locked(self) -> AsyncIterator[AsyncSession]:
        async with self._database.begin() as transaction:
            if transaction.get_bind().dialect.name == "postgresql":
                # Replicas wait here for each other; SQLite's transactions always do.
                await transaction.execute(text("LOCK TABLE signing_keys IN SHARE ROW EXCLUSIVE MODE"))
            yield transaction


def signing_keys_of(database: Database, settings: AuthSettings) -> SigningKeys:
    """Return the stored keys, as the settings want them."""
    return SigningKeys(
        database,
        algorithm=settings.signing_algorithm,
        publish_for=timedelta(seconds=settings.key_publish_seconds),
        token_seconds=max(settings.access_token_seconds, SERVICE_TOKEN_SECONDS),
        sealing=KeySealing(settings.key_encryption_keys.get_secret_value()),
    )


async def _get(transaction: AsyncSession, key_id: str) -> SigningKeyRow:
    row = await transaction.get(SigningKeyRow, key_id)
    if row is None or row.revoked_at is not None:
        raise SigningKeyNotFound
    return row


def _times(row: Row[str, str, datetime, datetime | None] | SigningKeyRow) -> KeyTimes:
    return KeyTimes(row.id, cast(Algorithm, row.algorithm), row.created_at, row.active_from or row.created_at)


def _age(key: KeyTimes) -> tuple[datetime, str]:
    return key.created_at, key.id
