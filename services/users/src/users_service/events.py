"""What happened to accounts: the audit trail, and the feed that other programs read, are one table.

Each event is written in the transaction of what it tells of. Each carries a hash over itself and
the hash before it, so that nobody changes, removes or inserts one unnoticed who does not rewrite
all that follow; `verify` tells, and its result can be kept elsewhere to tell that, too. An event
names accounts by their ids and fields by their names: it holds nothing personal.
"""

import hashlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from servicekit.database import Database, utc_now
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from users_service.tables import Event, EventHead, EventType

_CHUNK = 1000


class BrokenTrail(Exception):
    """The trail was tampered with, or damaged; the message says where."""


@dataclass(frozen=True, slots=True)
class Occurrence:
    """Something to be written down."""

    type: EventType
    account_id: UUID
    actor: str | None
    """The subject of the token, or None where there was none."""
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Head:
    """The last event: its number, and the hash that covers all before it."""

    sequence: int
    hash: bytes


async def append(session: AsyncSession, *occurrences: Occurrence) -> None:
    """Write events, as the last thing before the transaction commits.

    One writer at a time gets beyond this until it commits, so that numbers have no gaps and a
    reader never sees one appear behind a later one. So no other lock may be waited for after it.
    """
    head = (await session.scalars(select(EventHead).with_for_update().execution_options(populate_existing=True))).one()
    for occurrence in occurrences:
        event = Event(
            sequence=head.sequence + 1,
            at=utc_now(),
            type=occurrence.type,
            account_id=occurrence.account_id,
            actor=occurrence.actor,
            details=dict(occurrence.details),
        )
        event.hash = _digest(event, head.hash)
        session.add(event)
        head.sequence, head.hash = event.sequence, event.hash
    await session.flush()


async def read(session: AsyncSession, *, after: int, limit: int) -> Sequence[Event]:
    """Return at most `limit` events behind number `after`, in their order."""
    query = select(Event).where(Event.sequence > after).order_by(Event.sequence).limit(limit)
    return (await session.scalars(query)).all()


async def read_about(session: AsyncSession, account_id: UUID) -> Sequence[Event]:
    """Return every event of one account, in their order."""
    query = select(Event).where(Event.account_id == account_id).order_by(Event.sequence)
    return (await session.scalars(query)).all()


async def last_sequence(session: AsyncSession) -> int:
    """Return the number of the last event."""
    return (await session.scalars(select(EventHead.sequence))).one()


async def verify(database: Database) -> AsyncIterator[Head]:
    """Check the whole trail in chunks, yielding how far it is right.

    Events that are written meanwhile are left to the next time.

    Raises:
        BrokenTrail: an event was changed, removed or put in.
    """
    async with database.begin() as session:
        stored = (await session.scalars(select(EventHead))).one()
        end = Head(stored.sequence, stored.hash)
    head = Head(0, bytes(32))
    while head.sequence < end.sequence:
        async with database.begin() as session:
            chunk = await read(session, after=head.sequence, limit=min(_CHUNK, end.sequence - head.sequence))
        if not chunk:
            raise BrokenTrail(f"the events from {head.sequence + 1} to {end.sequence} are missing")
        for event in chunk:
            if event.sequence != head.sequence + 1:
                raise BrokenTrail(f"event {head.sequence + 1} is missing")
            if event.hash != _digest(event, head.hash):
                raise BrokenTrail(f"event {event.sequence} is not as it was written")
            head = Head(event.sequence, event.hash)
        yield head
    if head != end:
        raise BrokenTrail(f"event {end.sequence} is not the one that was written last")
    await _check_ends(database)


async def _check_ends(database: Database) -> None:
    """Look for events where nobody who follows the chain comes by: before the first, and behind the last.

    Raises:
        BrokenTrail: there is one.
    """
    # One statement: the head and the last event are those of one moment, whoever writes meanwhile.
    first, last = (select(end(Event.sequence)).scalar_subquery() for end in (func.min, func.max))
    async with database.begin() as session:
        head, lowest, highest = (await session.execute(select(EventHead.sequence, first, last))).one()
    if lowest is not None and lowest != 1:
        raise BrokenTrail(f"event {lowest} was put in before the first")
    if (highest or 0) != head:
        raise BrokenTrail(f"event {highest} is not the last that was written, which is {head}")


def _digest(event: Event, previous: bytes) -> bytes:
    """Return the SHA-256 of an event and what came before it."""
    content = {
        "previous": previous.hex(),
        "sequence": event.sequence,
        "at": _timestamp(event.at),
        "type": event.type,
        "account_id": str(event.account_id),
        "actor": event.actor,
        "details": event.details,
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).digest()


def _timestamp(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds")
