"""Sessions that end before their time: who may end them, and how others learn of it."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from servicekit.database import Database
from servicekit.logs import get_audit_log
from servicekit.revocations import Revocation, RevocationPage
from servicekit.shared_clock import read_shared_clock
from servicekit.token_form import InvalidToken
from servicekit.tokens import TokenVerifier
from sqlalchemy import ColumnElement, and_, or_, select, true
from sqlalchemy.ext.asyncio import AsyncSession

from auth_service.errors import InvalidGrant
from auth_service.session_ends import end_sessions_where
from auth_service.sessions import digest, longest_lifetime
from auth_service.tables import RefreshTokenRow, SessionRow

CURSOR = r"^[0-9]{1,16}(_[0-9a-f]{32})?$"
"""A point in time in microseconds, and the last session of that time that is known."""

PAGE_SIZE = 1000
OVERLAP = timedelta(seconds=15)
"""An end is seen when it is committed, which is later than the time that it bears: each reading goes back so far."""

MARGIN = timedelta(minutes=1)
"""A token may have been signed a moment after the end, and clocks differ: ends are told for longer than tokens live."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

audit = get_audit_log()


class Revocations:
    """Ends sessions. Their refresh tokens are worth nothing from then on, and neither are their access tokens."""

    def __init__(self, database: Database, *, access_token_seconds: int) -> None:
        self._database = database
        self._access_token_seconds = access_token_seconds

    async def revoke(self, token: str, *, client_id: str, verifier: TokenVerifier) -> None:
        """End the session of a refresh or access token (RFC 7009); a token that is over or unknown has none.

        Raises:
            InvalidGrant: the token is another client's.
        """
        found = await self._find_by_refresh_token(token) or await _read_access_token(token, verifier)
        if found is None:
            return
        session_id, owner = found
        if owner != client_id:
            raise InvalidGrant("the token is not this client's")
        await self._end(SessionRow.id == session_id)

    async def end(self, session_id: UUID, *, subject: str) -> bool:
        """End one session of `subject`, and tell whether there was such a one."""
        return bool(await self._end(SessionRow.id == session_id, SessionRow.subject == subject))

    async def end_all(self, subject: str) -> int:
        """End every session of `subject`, and tell how many there were."""
        return len(await self._end(SessionRow.subject == subject))

    async def is_revoked(self, session_id: str) -> bool:
        """Tell whether a session has ended, as `TokenVerifier` asks; one that nobody knows has."""
        try:
            query = select(SessionRow.id).where(SessionRow.id == UUID(session_id), SessionRow.ended_at.is_(None))
        except ValueError:
            return True
        async with self._database.begin() as transaction:
            return await transaction.scalar(query) is None

    async def list_ended(self, after: str | None) -> RevocationPage:
        """Return the next ended sessions `after` a cursor of the form `CURSOR`, or all that still matter."""
        async with self._database.begin() as transaction:
            now = await read_shared_clock(transaction)
            told_for = await longest_lifetime(transaction, at_least_seconds=self._access_token_seconds) + MARGIN
            query = select(SessionRow.id, SessionRow.ended_at).where(
                _is_behind(after), SessionRow.ended_at > now - told_for
            )
            query = query.order_by(SessionRow.ended_at, SessionRow.id).limit(PAGE_SIZE)
            rows = [(row.id, row.ended_at) for row in await transaction.execute(query)]
        has_more = len(rows) == PAGE_SIZE
        return RevocationPage(
            revocations=[
                Revocation(sid=str(session_id), expires_at=int((ended_at + told_for).timestamp()))
                for session_id, ended_at in rows
            ],
            next=f"{_microseconds(rows[-1][1])}_{rows[-1][0].hex}" if has_more else f"{_microseconds(now - OVERLAP)}",
            has_more=has_more,
        )

    async def _end(self, *which: ColumnElement[bool]) -> Sequence[UUID]:
        async with self._database.begin() as transaction:
            return await end_sessions(transaction, *which)

    async def _find_by_refresh_token(self, token: str) -> tuple[UUID, str] | None:
        """Return the session of a refresh token, used or not, and the client that it was given to."""
        query = (
            select(SessionRow.id, SessionRow.client_id)
            .join(RefreshTokenRow)
            .where(RefreshTokenRow.hash == digest(token))
        )
        async with self._database.begin() as transaction:
            row = (await transaction.execute(query)).one_or_none()
        return None if row is None else (row.id, row.client_id)


async def end_sessions(transaction: AsyncSession, *which: ColumnElement[bool]) -> Sequence[UUID]:
    """End the sessions of which all of `which` is true, and return their ids."""
    session_ids = await end_sessions_where(transaction, *which)
    for session_id in session_ids:
        audit.info("session_ended", session_id=str(session_id))
    return session_ids


async def _read_access_token(token: str, verifier: TokenVerifier) -> tuple[UUID, str] | None:
    try:
        claims = await verifier.verify(token)
    except InvalidToken:
        return None
    return None if claims.session_id is None else (UUID(claims.session_id), claims.client_id)


def _is_behind(cursor: str | None) -> ColumnElement[bool]:
    if cursor is None:
        return true()
    microseconds, _, session_id = cursor.partition("_")
    at = _EPOCH + timedelta(microseconds=int(microseconds))
    if not session_id:
        return SessionRow.ended_at >= at
    return or_(SessionRow.ended_at > at, and_(SessionRow.ended_at == at, SessionRow.id > UUID(session_id)))


def _microseconds(time: datetime) -> int:
    return (time - _EPOCH) // timedelta(microseconds=1)
