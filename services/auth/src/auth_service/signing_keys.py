"""The keys that sign access tokens: kept in the database, held in memory."""

import asyncio
from collections.abc import Sequence
from typing import cast

from servicekit.database import Database, utc_now
from servicekit.logs import get_logger
from servicekit.tokens import Algorithm, PublicKey, SigningKey
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from auth_service.tables import SigningKeyRow

log = get_logger(__name__)


class KeyRing:
    """Every key verifies and is published; the newest one of the set algorithm signs."""

    def __init__(self, keys: Sequence[SigningKey], algorithm: Algorithm) -> None:
        """Take `keys`, oldest first, at least one of them of `algorithm`."""
        self.current = [key for key in keys if key.algorithm == algorithm][-1]
        self.public_documents = [key.public_document for key in keys]
        self._public_keys = {key.key_id: PublicKey(key.public_document) for key in keys}

    async def get(self, key_id: str) -> PublicKey | None:
        """Return the key of a token that we may have signed, as `TokenVerifier` asks for it."""
        return self._public_keys.get(key_id)


async def load_key_ring(database: Database, algorithm: Algorithm) -> KeyRing:
    """Return the stored keys. Where none is of `algorithm`, make one first."""
    async with database.begin() as session:
        keys = await _read(session)
    if not _has(keys, algorithm):
        # Outside the transaction: an RSA key takes a while.
        key = await asyncio.to_thread(SigningKey.generate, algorithm)
        keys = await _add_first(database, key)
    return KeyRing(keys, algorithm)


async def _add_first(database: Database, key: SigningKey) -> list[SigningKey]:
    """Store `key` unless another replica was faster, and return what is stored then."""
    async with database.begin() as session:
        if session.get_bind().dialect.name == "postgresql":
            # Replicas that start together wait here for each other; SQLite's transactions always do.
            await session.execute(text("LOCK TABLE signing_keys IN SHARE ROW EXCLUSIVE MODE"))
        keys = await _read(session)
        if not _has(keys, key.algorithm):
            session.add(
                SigningKeyRow(id=key.key_id, algorithm=key.algorithm, private_pem=key.pem, created_at=utc_now())
            )
            keys.append(key)
            log.info("signing_key_created", key_id=key.key_id, algorithm=key.algorithm)
    return keys


async def _read(session: AsyncSession) -> list[SigningKey]:
    rows = await session.scalars(select(SigningKeyRow).order_by(SigningKeyRow.created_at, SigningKeyRow.id))
    return [SigningKey(row.private_pem, cast(Algorithm, row.algorithm)) for row in rows]


def _has(keys: Sequence[SigningKey], algorithm: Algorithm) -> bool:
    return any(key.algorithm == algorithm for key in keys)
