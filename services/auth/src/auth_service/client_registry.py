"""The registry of clients: what an administrator does to them."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from pydantic import ValidationError
from servicekit.database import Database, utc_now
from servicekit.logs import get_audit_log
from servicekit.problem import FieldError, InvalidRequest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from auth_service.client_rows import add_secret, live_secrets, registration, remove, replace, write
from auth_service.clients import MAX_SECRETS, RESERVED_IDS, ClientRegistration, NewClient
from auth_service.errors import (
    ClientConfigured,
    ClientExists,
    ClientNotFound,
    NoSecrets,
    ScopeExceeded,
    SecretNotFound,
    TooManySecrets,
)
from auth_service.revocations import end_sessions
from auth_service.tables import ClientRow, ClientSecretRow, SessionRow

audit = get_audit_log()


class ClientRegistry:
    """Keeps clients.

    Whoever changes one needs each scope that it has: else the secret of a mightier client would be
    there for the asking. They are given as `scopes`. What a change takes away is gone at once, for
    it ends the sessions of the client, its own and its users'.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_clients(self, *, after: str, limit: int) -> Sequence[ClientRow]:
        """Return clients in the order of their ids, from behind `after`."""
        query = select(ClientRow).where(ClientRow.id > after).order_by(ClientRow.id).limit(limit)
        async with self._database.begin() as transaction:
            return (await transaction.scalars(query)).all()

    async def get(self, client_id: str) -> ClientRow:
        """Return a client with its secrets.

        Raises:
            ClientNotFound: there is none of that id.
        """
        async with self._database.begin() as transaction:
            row = await transaction.get(ClientRow, client_id)
        if row is None:
            raise ClientNotFound
        return row

    async def register(self, new: NewClient, *, scopes: frozenset[str]) -> tuple[ClientRow, str | None]:
        """Keep a client, and return it with its secret, where it proves itself by one.

        Raises:
            ClientExists: the id is taken.
            ScopeExceeded: it would have a scope that is not in `scopes`.
        """
        _check_scopes(new.scopes, scopes)
        if new.id in RESERVED_IDS:
            raise ClientExists
        row = ClientRow(id=new.id, is_configured=False, created_at=utc_now(), secrets=[])
        write(row, new)
        secret = add_secret(row) if new.has_secrets else None
        try:
            async with self._database.begin() as transaction:
                transaction.add(row)
        except IntegrityError:
            raise ClientExists from None  # its id, or its ServiceAccount
        audit.info("client_registered", client_id=row.id)
        return row, secret

    async def change(self, client_id: str, changes: Mapping[str, Any], *, scopes: frozenset[str]) -> ClientRow:
        """Change fields of a client.

        Raises:
            ClientNotFound: there is none of that id.
            ClientConfigured: the settings alone can change it.
            ScopeExceeded: it has, or would have, a scope that is not in `scopes`.
            ClientExists: another client has the ServiceAccount.
            InvalidRequest: the fields contradict each other.
        """
        async with self._database.begin() as transaction:
            row = await _find_changeable(transaction, client_id, scopes)
            try:
                after = ClientRegistration.model_validate({**registration(row).model_dump(), **changes})
            except ValidationError as invalid:
                raise InvalidRequest("the client is not valid", errors=_field_errors(invalid)) from None
            _check_scopes(after.scopes, scopes)
            await replace(transaction, row, after)
            try:
                await transaction.flush()
            except IntegrityError:
                raise ClientExists from None
        audit.info("client_changed", client_id=client_id)
        return row

    async def delete(self, client_id: str, *, scopes: frozenset[str]) -> None:
        """Forget a client. Its tokens are refused everywhere within two seconds.

        Raises:
            ClientNotFound: there is none of that id.
            ClientConfigured: the settings alone can remove it.
            ScopeExceeded: it has a scope that is not in `scopes`.
        """
        async with self._database.begin() as transaction:
            await remove(transaction, await _find_changeable(transaction, client_id, scopes))

    async def rotate_secret(
        self, client_id: str, *, old_lasts: timedelta, scopes: frozenset[str]
    ) -> tuple[ClientSecretRow, str]:
        """Give a client another secret. The one that it has works for as long as `old_lasts`.

        Raises:
            ClientNotFound: there is none of that id.
            ClientConfigured: the settings alone can change it.
            ScopeExceeded: it has a scope that is not in `scopes`.
            NoSecrets: it proves itself without one.
            TooManySecrets: two work already.
        """
        now = utc_now()
        async with self._database.begin() as transaction:
            row = await _find_changeable(transaction, client_id, scopes)
            if not registration(row).has_secrets:
                raise NoSecrets
            row.secrets = live_secrets(row, now)
            if len(row.secrets) >= MAX_SECRETS:
                raise TooManySecrets
            for old in row.secrets:
                old.expires_at = min(old.expires_at or now + old_lasts, now + old_lasts)
            secret = add_secret(row)
        audit.info("client_secret_added", client_id=client_id)
        return row.secrets[-1], secret

    async def end_secret(self, client_id: str, secret_id: UUID, *, scopes: frozenset[str]) -> None:
        """Forget a secret. The tokens that it gave are refused everywhere within two seconds.

        Raises:
            ClientNotFound: there is none of that id.
            SecretNotFound: the client has no such secret.
            ClientConfigured: the settings alone can change it.
            ScopeExceeded: it has a scope that is not in `scopes`.
        """
        async with self._database.begin() as transaction:
            row = await _find_changeable(transaction, client_id, scopes)
            kept = [secret for secret in row.secrets if secret.id != secret_id]
            if len(kept) == len(row.secrets):
                raise SecretNotFound
            row.secrets = kept
            await end_sessions(transaction, SessionRow.credential_id == secret_id)
        audit.info("client_secret_ended", client_id=client_id)


async def _find_changeable(transaction: AsyncSession, client_id: str, scopes: frozenset[str]) -> ClientRow:
    """Return a client, and keep others from changing it until the transaction ends."""
    row = await transaction.get(ClientRow, client_id, with_for_update=True)
    if row is None:
        raise ClientNotFound
    _check_scopes(frozenset(row.scope.split()), scopes)
    if row.is_configured:
        raise ClientConfigured
    return row


def _check_scopes(wanted: frozenset[str], scopes: frozenset[str]) -> None:
    if missing := wanted - scopes:
        raise ScopeExceeded(missing)


def _field_errors(invalid: ValidationError) -> list[FieldError]:
    return [
        FieldError(
            field=".".join(str(part) for part in ("body", *error["loc"])),
            detail=error["msg"].removeprefix("Value error, "),
        )
        for error in invalid.errors()
    ]
