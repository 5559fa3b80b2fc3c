"""Deleting, restoring and erasing accounts. A deleted one waits in a table of its own."""

from collections.abc import Callable
from typing import Any

import sqlalchemy as sql
from servicekit.database import utc_now
from servicekit.logs import get_audit_log
from sqlalchemy.ext.asyncio import AsyncSession

from users_service import accounts, events
from users_service.accounts import Condition
from users_service.attempts import Guard
from users_service.credentials import names_of
from users_service.errors import UserNotFound
from users_service.events import Occurrence
from users_service.tables import Account, DeletedAccount, IdempotencyKey

audit = get_audit_log()


async def delete(session: AsyncSession, account: Account, *, actor: str | None, only_if: Condition) -> None:
    """Delete an account; it is kept aside, so that it can be restored.

    Raises:
        LastAdministrator: nobody could administer any more.
        UserNotFound: the account was deleted a moment ago.
    """
    await accounts.keep_an_administrator(session, account)
    await accounts.lock(session, account)
    only_if(account)
    session.add(DeletedAccount(**_columns(account)))
    await session.delete(account)
    await session.flush()
    await events.append(session, Occurrence("account.deleted", account.id, actor))
    audit.info("account_deleted", account_id=str(account.id))


async def restore(
    session: AsyncSession, account_id: str, *, actor: str | None, only_if: Callable[[DeletedAccount], None]
) -> Account:
    """Make a deleted account as it was; one that is not deleted stays as it is.

    Raises:
        UserNotFound: no account has this id, or it was erased.
        AccountExists: somebody else has taken the user name or the e-mail address since.
    """
    try:
        deleted = await find(session, account_id)
    except UserNotFound:
        return await accounts.find(session, account_id)
    only_if(deleted)
    account = Account(**_columns(deleted) | {"updated_at": utc_now()})
    session.add(account)
    await session.delete(deleted)
    await accounts.flush(session)
    await events.append(session, Occurrence("account.restored", account.id, actor, accounts.rights(account)))
    audit.info("account_restored", account_id=account_id)
    return account


async def erase(
    session: AsyncSession, account: Account | DeletedAccount, guard: Guard, *, actor: str | None, only_if: Condition
) -> None:
    """Remove all that is known of somebody, for good. Events keep the id, which tells nothing then.

    Raises:
        LastAdministrator: nobody could administer any more.
        UserNotFound: the account was deleted a moment ago.
    """
    if isinstance(account, Account):
        await accounts.keep_an_administrator(session, account)
        await accounts.lock(session, account)
    only_if(account)
    await session.delete(account)
    await session.execute(sql.delete(IdempotencyKey).where(IdempotencyKey.account_id == account.id))
    await session.flush()
    await guard.forget(session, *names_of(account))
    await events.append(session, Occurrence("account.erased", account.id, actor))
    audit.info("account_erased", account_id=str(account.id))


async def find(session: AsyncSession, account_id: str) -> DeletedAccount:
    """Return the deleted account of this id, and keep others from restoring or erasing it.

    Raises:
        UserNotFound: no deleted account has this id.
    """
    deleted = await session.get(DeletedAccount, accounts.parse_id(account_id), with_for_update=True)
    if deleted is None:
        raise UserNotFound
    return deleted


def _columns(record: Account | DeletedAccount) -> dict[str, Any]:
    """Return what accounts and deleted ones have in common."""
    shared = set(Account.__table__.columns.keys()) & set(DeletedAccount.__table__.columns.keys())
    return {name: getattr(record, name) for name in shared}
