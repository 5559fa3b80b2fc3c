"""Sessions: a sign-in and the refresh tokens that follow from it, each used once."""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from servicekit.database import Database, new_id, utc_now
from servicekit.logs import get_audit_log
from servicekit.shared_clock import read_shared_clock, shared_now
from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from auth_service.account_events import was_ended
from auth_service.errors import InvalidGrant
from auth_service.metrics import AuthMetrics
from auth_service.tables import RefreshTokenRow, SessionRow

PURGE_AFTER = timedelta(days=1)
"""Sessions stay for so long behind their last access token: no request that is under way may lose its rows."""

PURGE_AT_ONCE = 20
"""How many a sign-in removes: more than it adds, and few enough to go unnoticed."""

DEVICE_LENGTH = 200
"""Characters that are kept of what a device calls itself."""

MAX_LISTED = 100
"""Longest list of sessions: who signs in by script has many."""

audit = get_audit_log()


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long sessions and their tokens may be used."""

    access_token: timedelta
    idle: timedelta
    absolute: timedelta
    grace: timedelta

    @property
    def access_token_seconds(self) -> int:
        """What a session keeps of the first."""
        return int(self.access_token.total_seconds())


@dataclass(frozen=True, slots=True)
class Session:
    """Who signed in where, and to do what at most."""

    id: UUID
    subject: str
    client_id: str
    scopes: frozenset[str]


class Sessions:
    """Starts, continues and ends sessions.

    A refresh token is used once: it is replaced by its successor. Because the answer may get
    lost, the token before the newest one gets the same successor again within the grace. Any
    other token that comes a second time has been copied, and ends its session.
    """

    def __init__(self, database: Database, lifetimes: Lifetimes, metrics: AuthMetrics) -> None:
        self._database = database
        self._metrics = metrics
        self._lifetimes = lifetimes

    async def start(
        self,
        *,
        subject: str,
        client_id: str,
        scopes: frozenset[str],
        device: str | None = None,
        events_seen: int | None = None,
    ) -> tuple[Session, str]:
        """Return a new session and its first refresh token.

        Raises:
            InvalidGrant: the account was changed since its credentials were verified, after event `events_seen`.
        """
        session = Session(new_id(), subject, client_id, scopes)
        refresh_token = _encode(secrets.token_bytes(32))
        now = utc_now()
        async with self._database.begin() as transaction:
            if events_seen is not None and await was_ended(transaction, subject, events_seen=events_seen):
                raise InvalidGrant("the account was changed in this moment")
            lived = await longest_lifetime(transaction, at_least_seconds=self._lifetimes.access_token_seconds)
            await _purge(transaction, before=now - PURGE_AFTER - lived)
            transaction.add(
                SessionRow(
                    id=session.id,
                    subject=subject,
                    client_id=client_id,
                    scope=" ".join(sorted(scopes)),
                    device=device and device[:DEVICE_LENGTH],
                    successor_secret=secrets.token_bytes(32),
                    events_seen=events_seen,
                    access_token_seconds=self._lifetimes.access_token_seconds,
                    created_at=now,
                    last_used_at=now,
                    expires_at=self._expiry(now, now),
                )
            )
            await transaction.flush()
            transaction.add(_token_row(refresh_token, session.id, now))
        return session, refresh_token

    async def list_live(self, subject: str) -> Sequence[SessionRow]:
        """Return the sessions that `subject` may go on with, the last used first: `MAX_LISTED` of them at most."""
        query = (
            select(SessionRow)
            .where(SessionRow.subject == subject, SessionRow.ended_at.is_(None), SessionRow.expires_at > utc_now())
            .order_by(SessionRow.last_used_at.desc(), SessionRow.id.desc())
            .limit(MAX_LISTED)
        )
        async with self._database.begin() as transaction:
            return (await transaction.scalars(query)).all()

    async def find_unused(self, refresh_token: str) -> SessionRow | None:
        """Return the session that a refresh token would continue, None where it is over or was used."""
        async with self._database.begin() as transaction:
            row = await _live_session(transaction, refresh_token)
            return None if row is None or await _used_at(transaction, refresh_token) is not None else row

    async def find(self, refresh_token: str, *, client_id: str) -> Session:
        """Return the session that `refresh_token` continues; the token is not used by this.

        Raises:
            InvalidGrant: the token is unknown, expired, another client's or used before.
        """
        async with self._database.begin() as transaction:
            row = await _live_session(transaction, refresh_token)
            usable = row is not None and row.client_id == client_id
            if row is not None and usable:
                usable = await self._is_usable(transaction, row, refresh_token)
        # Raised outside the transaction, which is to be kept where it ended the session.
        if row is None or not usable:
            raise _refused()
        return Session(row.id, row.subject, row.client_id, frozenset(row.scope.split(" ")))

    async def rotate(self, refresh_token: str) -> str:
        """Use `refresh_token` and return its successor.

        Raises:
            InvalidGrant: the session has ended since, or the token is used before.
        """
        now = utc_now()
        use = (
            update(RefreshTokenRow)
            .where(RefreshTokenRow.hash == digest(refresh_token), RefreshTokenRow.used_at.is_(None))
            .values(used_at=shared_now())
            .returning(RefreshTokenRow.hash)
        )
        async with self._database.begin() as transaction:
            # Of all who try at the same time, the database lets one set `used_at`. It comes before
            # any reading, so that the others wait here and then see what the first one did.
            is_first = await transaction.scalar(use) is not None
            row = await _live_session(transaction, refresh_token)
            if row is not None and is_first:
                transaction.add(_token_row(_successor(row, refresh_token), row.id, now))
                row.last_used_at = now
                row.expires_at = self._expiry(row.created_at, now)
            usable = row is not None and (is_first or await self._is_usable(transaction, row, refresh_token))
            if row is not None and usable:
                await self._note_lifetime(transaction, row)
        if row is None or not usable:
            raise _refused()
        return _successor(row, refresh_token)

    async def end(self, session_id: UUID) -> None:
        """End a session: none of its refresh tokens works any more."""
        async with self._database.begin() as transaction:
            await _end(transaction, session_id)
        audit.info("session_ended", session_id=str(session_id))

    async def _is_usable(self, transaction: AsyncSession, row: SessionRow, refresh_token: str) -> bool:
        """Tell whether a token of the live session `row` is unused or a retry; end the session if it is neither."""
        used_at = await _used_at(transaction, refresh_token)
        if used_at is None:
            return True
        was_answered = await _used_at(transaction, _successor(row, refresh_token)) is not None
        now = await read_shared_clock(transaction)
        if not was_answered and now - used_at <= self._lifetimes.grace:
            return True
        await _end(transaction, row.id)
        self._metrics.refresh_token_was_reused()
        audit.warning("refresh_token_reused", session_id=str(row.id))
        return False

    async def _note_lifetime(self, transaction: AsyncSession, row: SessionRow) -> None:
        """Let a session know how long the access token lives that it gets now, where none did before."""
        seconds = self._lifetimes.access_token_seconds
        if row.access_token_seconds is not None and row.access_token_seconds >= seconds:
            return
        column = SessionRow.access_token_seconds  # compared once more: a replica with other settings may be at it
        await transaction.execute(
            update(SessionRow)
            .where(SessionRow.id == row.id, or_(column.is_(None), column < seconds))
            .values(access_token_seconds=seconds)
        )

    def _expiry(self, created_at: datetime, now: datetime) -> datetime:
        return min(now + self._lifetimes.idle, created_at + self._lifetimes.absolute)


async def _end(transaction: AsyncSession, session_id: UUID) -> None:
    unended = update(SessionRow).where(SessionRow.id == session_id, SessionRow.ended_at.is_(None))
    await transaction.execute(unended.values(ended_at=shared_now()))


async def longest_lifetime(transaction: AsyncSession, *, at_least_seconds: int) -> timedelta:
    """Return how long an access token that is about may live: where the setting was longer before, some do longer."""
    longest = await transaction.scalar(select(func.max(SessionRow.access_token_seconds))) or 0
    return timedelta(seconds=max(longest, at_least_seconds))


async def _live_session(transaction: AsyncSession, refresh_token: str) -> SessionRow | None:
    result = await transaction.scalars(
        select(SessionRow)
        .join(RefreshTokenRow)
        .where(
            RefreshTokenRow.hash == digest(refresh_token),
            SessionRow.ended_at.is_(None),
            SessionRow.expires_at > utc_now(),
        )
    )
    return result.one_or_none()


async def _used_at(transaction: AsyncSession, refresh_token: str) -> datetime | None:
    query = select(RefreshTokenRow.used_at).where(RefreshTokenRow.hash == digest(refresh_token))
    return await transaction.scalar(query)


async def _purge(transaction: AsyncSession, *, before: datetime) -> None:
    """Remove a few of the sessions that were over then, with their tokens."""
    over = (
        select(SessionRow.id)
        .where(SessionRow.expires_at < before)
        .order_by(SessionRow.expires_at)
        .limit(PURGE_AT_ONCE)
        .with_for_update(skip_locked=True)  # PostgreSQL: another sign-in may be at the same ones
    )
    await transaction.execute(
        delete(SessionRow).where(SessionRow.id.in_(over)).execution_options(synchronize_session=False)
    )


def _token_row(refresh_token: str, session_id: UUID, now: datetime) -> RefreshTokenRow:
    return RefreshTokenRow(hash=digest(refresh_token), session_id=session_id, created_at=now)


def digest(refresh_token: str) -> bytes:
    """Return what is stored of a refresh token."""
    return hashlib.sha256(refresh_token.encode("utf-8")).digest()


def _successor(row: SessionRow, refresh_token: str) -> str:
    return _encode(hmac.digest(row.successor_secret, refresh_token.encode("utf-8"), "sha256"))


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _refused() -> InvalidGrant:
    return InvalidGrant("the refresh token is not valid")
