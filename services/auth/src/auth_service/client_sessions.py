"""The sessions of clients themselves: what the tokens of one credential have in common, and end with."""

from datetime import timedelta
from uuid import UUID

from servicekit.database import Database, new_id, utc_now
from servicekit.logs import get_audit_log
from sqlalchemy import select

from auth_service.clients import Client
from auth_service.errors import UnauthorizedClient
from auth_service.tables import SessionRow

LIFETIME = timedelta(days=1)
"""A row a day and credential, however often it is used."""

audit = get_audit_log()


class ClientSessions:
    """Gives each credential a session, so that the services learn of its end as of any other."""

    def __init__(self, database: Database, *, access_token_seconds: int) -> None:
        self._database = database
        self._access_token_seconds = access_token_seconds
        self._token_lifetime = timedelta(seconds=access_token_seconds)

    async def current(self, client: Client) -> UUID:
        """Return the session that a token of `client` belongs to now.

        Two that ask at once may get two: both end with the credential.

        Raises:
            UnauthorizedClient: it has not proven who it is, so nothing may be given to it itself.
        """
        if client.credential_id is None:  # as a condition that would be the sessions of all users
            raise UnauthorizedClient("the client does not authenticate")
        now = utc_now()
        query = select(SessionRow.id).where(
            SessionRow.credential_id == client.credential_id,
            SessionRow.ended_at.is_(None),
            SessionRow.expires_at > now + self._token_lifetime,
            SessionRow.access_token_seconds >= self._access_token_seconds,
        )
        async with self._database.begin() as transaction:
            session_id = await transaction.scalar(query.order_by(SessionRow.id.desc()).limit(1))
            if session_id is not None:
                return session_id
            row = SessionRow(
                id=new_id(),
                subject=client.id,
                client_id=client.id,
                credential_id=client.credential_id,
                scope=" ".join(sorted(client.scopes)),
                successor_secret=b"",  # it has no refresh tokens
                access_token_seconds=self._access_token_seconds,
                created_at=now,
                last_used_at=now,
                expires_at=now + self._token_lifetime + LIFETIME,
            )
            transaction.add(row)
        audit.info("client_session_started", session_id=str(row.id), client_id=client.id)
        return row.id
