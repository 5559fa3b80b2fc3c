"""What is stored of a client, and what goes with it."""

import hashlib
import secrets
from datetime import datetime
from typing import Any

from servicekit.database import new_id, utc_now
from servicekit.logs import get_audit_log
from sqlalchemy.ext.asyncio import AsyncSession

from auth_service.clients import SIGNED, ClientRegistration
from auth_service.revocations import end_sessions
from auth_service.tables import ClientRow, ClientSecretRow, SessionRow

SECRET_BYTES = 32

audit = get_audit_log()


def registration(row: ClientRow) -> ClientRegistration:
    """Return what a stored client may do, as it was taken then: later rules are for what is registered later."""
    stored: dict[str, Any] = {
        "name": row.name,
        "grant_types": frozenset(row.grant_types.split()),
        "scopes": frozenset(row.scope.split()),
        "token_endpoint_auth_method": row.token_endpoint_auth_method,
        "first_party": row.first_party,
        "jwks": row.jwks,
        "jwks_uri": row.jwks_uri,
        "service_account": row.service_account,
    }
    return ClientRegistration.model_construct(**stored)


def write(row: ClientRow, client: ClientRegistration) -> None:
    """Put what a client may do into its row."""
    row.name = client.name
    row.grant_types = " ".join(sorted(client.grant_types))
    row.scope = " ".join(sorted(client.scopes))
    row.token_endpoint_auth_method = client.token_endpoint_auth_method
    row.first_party = client.first_party
    row.jwks, row.jwks_uri, row.service_account = client.jwks, client.jwks_uri, client.service_account
    if client.token_endpoint_auth_method == SIGNED and row.key_credential_id is None:
        row.key_credential_id = new_id()


async def replace(transaction: AsyncSession, row: ClientRow, client: ClientRegistration) -> None:
    """Write a stored client anew, and end its sessions where it may do less than before."""
    before = registration(row)
    if row.key_credential_id is not None and not _keeps_keys(before, client):
        await end_sessions(transaction, SessionRow.credential_id == row.key_credential_id)
        row.key_credential_id = None
    write(row, client)
    if not client.has_secrets:
        row.secrets = []
    is_less = not (before.scopes <= client.scopes and before.grant_types <= client.grant_types)
    if is_less or before.token_endpoint_auth_method != client.token_endpoint_auth_method:
        await end_sessions(transaction, SessionRow.client_id == row.id)


async def remove(transaction: AsyncSession, row: ClientRow) -> None:
    """Forget a stored client, and end its sessions."""
    await transaction.delete(row)
    await end_sessions(transaction, SessionRow.client_id == row.id)
    audit.info("client_deleted", client_id=row.id)


def _keeps_keys(before: ClientRegistration, after: ClientRegistration) -> bool:
    """Tell whether each key that a client could prove itself with is still good."""
    if before.jwks is not None and after.jwks is not None:
        return all(key in after.jwks for key in before.jwks)
    return (before.jwks, before.jwks_uri, before.service_account) == (
        after.jwks,
        after.jwks_uri,
        after.service_account,
    )


def digest(secret: str) -> bytes:
    """Return what is stored of a secret.

    One SHA-256 is enough: a secret of 256 random bits cannot be guessed, however fast the hash.
    """
    return hashlib.sha256(secret.encode("utf-8")).digest()


def live_secrets(row: ClientRow, now: datetime) -> list[ClientSecretRow]:
    """Return the secrets that work, the oldest first."""
    return [secret for secret in row.secrets if secret.expires_at is None or secret.expires_at > now]


def add_secret(row: ClientRow) -> str:
    """Give a client another secret, and return it: it cannot be read again."""
    secret = secrets.token_urlsafe(SECRET_BYTES)
    row.secrets.append(ClientSecretRow(id=new_id(), hash=digest(secret), created_at=utc_now()))
    return secret
