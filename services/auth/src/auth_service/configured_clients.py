"""The clients that the settings name, put beside the registered ones."""

from collections.abc import Sequence

from servicekit.database import Database, new_id, utc_now
from servicekit.logs import get_audit_log
from sqlalchemy import select, text

from auth_service.client_rows import remove, replace, write
from auth_service.clients import ConfiguredClient
from auth_service.revocations import end_sessions
from auth_service.tables import ClientRow, ClientSecretRow, SessionRow

audit = get_audit_log()


async def adopt_configured_clients(database: Database, configured: Sequence[ConfiguredClient]) -> None:
    """Store the clients of the settings as they are there, and forget those that were there before.

    A registered client with the id of a configured one makes way for it. A secret that stays keeps
    its sessions. What is taken away ends sessions, as if an administrator did it.

    Raises:
        SystemExit: a client that was registered under another id has the ServiceAccount of one.
    """
    async with database.begin() as transaction:
        if transaction.get_bind().dialect.name == "postgresql":
            # Replicas that start together take turns; SQLite's transactions always do.
            await transaction.execute(text("LOCK TABLE clients IN SHARE ROW EXCLUSIVE MODE"))
        wanted = {client.id: client for client in configured}
        accounts = {client.service_account for client in configured if client.service_account is not None}
        query = select(ClientRow).where(
            ClientRow.is_configured | ClientRow.id.in_(wanted) | ClientRow.service_account.in_(accounts)
        )
        rows = {row.id: row for row in await transaction.scalars(query)}
        for client_id in rows.keys() - wanted.keys():
            if not rows[client_id].is_configured:
                raise SystemExit(
                    f"AUTH_CLIENTS: the ServiceAccount {rows[client_id].service_account} is that of {client_id}, "
                    "which was registered: delete that client first, or use its id"
                )
            await remove(transaction, rows[client_id])
        for client_id in rows.keys() & wanted.keys():
            if rows[client_id].service_account != wanted[client_id].service_account:
                rows[client_id].service_account = None  # another may get it, and two never have the same
        await transaction.flush()
        for client in configured:
            row = rows.get(client.id)
            if row is None:
                row = ClientRow(id=client.id, created_at=utc_now(), secrets=[])
                write(row, client)
                transaction.add(row)
            else:
                await replace(transaction, row, client)
            row.is_configured = True
            for over in _set_secrets(row, client):
                await end_sessions(transaction, SessionRow.credential_id == over.id)
    if configured:
        audit.info("clients_configured", count=len(configured))


def _set_secrets(row: ClientRow, client: ConfiguredClient) -> list[ClientSecretRow]:
    """Give a client the secrets that it shall have, and return those that it has no more."""
    hashes = [bytes.fromhex(text) for text in client.secret_sha256]
    over = [secret for secret in row.secrets if secret.hash not in hashes or secret.expires_at is not None]
    kept = [secret for secret in row.secrets if secret not in over]
    known = {secret.hash for secret in kept}
    added = [ClientSecretRow(id=new_id(), hash=new, created_at=utc_now()) for new in hashes if new not in known]
    row.secrets = [*kept, *added]
    return over
