"""What happens to accounts, as users tells it: it ends the sessions that were opened before."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from uuid import UUID

import httpx
from prometheus_client import CollectorRegistry
from pydantic import AwareDatetime, BaseModel
from servicekit.background import running
from servicekit.database import Database, utc_now
from servicekit.health import Readiness
from servicekit.logs import get_audit_log, get_logger
from servicekit.metrics import Readings
from sqlalchemy import and_, delete, or_, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from auth_service.session_ends import end_sessions_where
from auth_service.tables import AccountEnding, AccountFeed, SessionRow

EVENTS_PATH = "/internal/events"
POLL_SECONDS = 0.5
REQUEST_SECONDS = 2.0
PAGE_SIZE = 100
"""Events that are taken at once: sign-ins wait meanwhile, and what they end is told of when all are taken."""

ENDINGS_KEPT = timedelta(hours=1)
"""Longer than any sign-in takes from the moment that users has verified its credentials."""

_ENDINGS = frozenset({"account.deleted", "account.erased", "password.changed", "password.reset"})
_RIGHTS = frozenset({"roles", "disabled"})

log = get_logger(__name__)
audit = get_audit_log()


class Details(BaseModel):
    """What an event says beside its type, as far as it matters here."""

    fields: frozenset[str] = frozenset()
    session_id: UUID | None = None


class AccountEvent(BaseModel):
    """Something that happened to an account."""

    sequence: int
    at: AwareDatetime
    type: str
    account_id: UUID
    details: Details

    @property
    def ends_sessions(self) -> bool:
        """Whether what was granted to the account before it is void."""
        return self.type in _ENDINGS or (self.type == "account.changed" and bool(self.details.fields & _RIGHTS))


class AccountEventPage(BaseModel):
    """Events in their order, and the number of the last one that users has."""

    events: list[AccountEvent]
    last: int


class AccountEvents:
    """Follows the events of users. The position is in the database: replicas share it and take turns.

    Times are not compared: a session knows the number of the event that its sign-in came after, and
    only events with a higher number end it.
    """

    def __init__(
        self, http: httpx.AsyncClient, database: Database, registry: CollectorRegistry, readiness: Readiness
    ) -> None:
        """Take a client that knows where users is and authenticates to it."""
        self._http = http
        self._database = database
        self._readiness = readiness
        self._position: int | None = None
        self._is_following = True
        self._readings = Readings(
            registry,
            count="auth_account_events_reads",
            time="auth_account_events_read_timestamp_seconds",
            what="the list of account events",
        )

    async def keep_up(self, interval_seconds: float) -> None:
        """Catch up for ever. While users is away nothing is refused, and nothing is forgotten."""
        while True:
            await self.catch_up()
            await asyncio.sleep(interval_seconds)

    async def catch_up(self) -> None:
        """Take what has happened since the last time."""
        try:
            while not await self._take_page():
                pass
        except Exception as error:
            # Whatever it is, the next attempt may succeed; nobody would notice a follower that has stopped.
            if self._is_following and not self._readiness.is_ending:  # users may have been told to end as well
                log.warning("account_events_lost", error=type(error).__name__)
            self._is_following = False
            self._readings.failed()
            return
        self._readings.succeeded()
        if not self._is_following:
            log.info("account_events_regained")
        self._is_following = True

    async def _take_page(self) -> bool:
        """Take the next events, and tell whether they were the last ones."""
        if self._position is None:
            async with self._database.begin() as transaction:
                self._position = await transaction.scalar(select(AccountFeed.sequence)) or 0
        page = await self._fetch(after=self._position)
        if page.last < self._position:
            await self._go_back(page.last)
            return self._position >= page.last
        if page.events:
            await self._apply(page.events)
        return not page.events or self._position >= page.last

    async def _fetch(self, *, after: int) -> AccountEventPage:
        async with asyncio.timeout(REQUEST_SECONDS):
            response = await self._http.get(EVENTS_PATH, params={"after": after, "limit": PAGE_SIZE})
        response.raise_for_status()
        return AccountEventPage.model_validate_json(response.content)

    async def _apply(self, events: list[AccountEvent]) -> None:
        ended: list[UUID] = []
        async with self._database.begin() as transaction:
            feed = await _lock_feed(transaction)
            await transaction.execute(delete(AccountEnding).where(AccountEnding.at < utc_now() - ENDINGS_KEPT))
            for event in events:
                if event.sequence > feed.sequence and event.ends_sessions:
                    ended += await _end_sessions(transaction, event)
            feed.sequence = position = max(feed.sequence, events[-1].sequence)
        self._position = position  # now that it is stored: where a commit fails, they are still to come
        for session_id in ended:
            audit.info("session_ended", session_id=str(session_id))

    async def _go_back(self, last: int) -> None:
        """Follow a users service whose database was restored: what it does not know of, nobody has verified."""
        async with self._database.begin() as transaction:
            feed = await _lock_feed(transaction)
            if feed.sequence <= last:  # another replica was faster, and what it has not taken yet is still to come
                self._position = feed.sequence
                return
            await transaction.execute(delete(AccountEnding).where(AccountEnding.sequence > last))
            await end_sessions_where(transaction, SessionRow.events_seen > last)
            feed.sequence = last
        self._position = last
        log.warning("account_events_went_back", last=last)


async def was_ended(transaction: AsyncSession, subject: str, *, events_seen: int) -> bool:
    """Tell whether an event that is newer than `events_seen` has ended what `subject` was granted.

    Until the transaction is over no further event is taken: a session that is stored in it will be
    there to be ended by the next one.
    """
    await _lock_feed(transaction, shared=True)
    newer = select(AccountEnding.sequence).where(AccountEnding.sequence > events_seen, AccountEnding.subject == subject)
    return await transaction.scalar(newer.limit(1)) is not None


async def _lock_feed(transaction: AsyncSession, *, shared: bool = False) -> AccountFeed:
    if not shared and transaction.get_bind().dialect.name == "postgresql":
        # Who comes to share a row goes ahead of who waits to have it alone, so that sign-ins one over the other would
        # keep events waiting without an end. For a table they wait in turn, and who shares the row shares the table.
        await transaction.execute(text("LOCK TABLE account_feed IN EXCLUSIVE MODE"))
    return (await transaction.scalars(select(AccountFeed).with_for_update(read=shared))).one()


async def _end_sessions(transaction: AsyncSession, event: AccountEvent) -> Sequence[UUID]:
    """End the sessions that an account had before an event, but for the one that the event came from."""
    subject = str(event.account_id)
    transaction.add(AccountEnding(sequence=event.sequence, subject=subject, at=utc_now()))
    before = or_(
        SessionRow.events_seen < event.sequence,
        and_(SessionRow.events_seen.is_(None), SessionRow.created_at < event.at),  # of the version before
    )
    which = [SessionRow.subject == subject, before]
    if event.details.session_id is not None:
        which.append(SessionRow.id != event.details.session_id)
    ended = await end_sessions_where(transaction, *which)
    if event.type == "account.erased":
        await transaction.execute(update(SessionRow).where(SessionRow.subject == subject).values(device=None))
    return ended


@contextlib.asynccontextmanager
async def follow_account_events(
    http: httpx.AsyncClient,
    database: Database,
    registry: CollectorRegistry,
    readiness: Readiness,
    *,
    interval_seconds: float = POLL_SECONDS,
) -> AsyncIterator[None]:
    """Follow the events of users in the background."""
    events = AccountEvents(http, database, registry, readiness)
    async with running(events.keep_up(interval_seconds), name="account_events"):
        yield
