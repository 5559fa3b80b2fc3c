"""Accounts: create, find, list, change, delete, restore, erase. The unique indexes decide who has a name."""

from collections.abc import Callable, Collection, Sequence
from typing import Any, TypedDict
from uuid import UUID

from servicekit.database import new_id, utc_now
from servicekit.logs import get_logger
from sqlalchemy import delete as sql_delete
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from users_service import events
from users_service.errors import AccountExists, LastAdministrator, UserNotFound
from users_service.events import Occurrence
from users_service.identifiers import canonical_email, canonical_username, normalize_email
from users_service.tables import Account, DeletedAccount, IdempotencyKey, Role

log = get_logger(__name__)


Condition = Callable[[Account], None]
"""Raises where an account, which is locked now, may not be changed by its caller after all."""


class Changes(TypedDict, total=False):
    """The fields that a caller has given."""

    username: str
    email: str
    full_name: str | None
    disabled: bool
    roles: Collection[Role]


async def create(
    session: AsyncSession,
    fields: Changes,
    *,
    password_hash: str | None,
    actor: str | None,
    account_id: UUID | None = None,
) -> Account:
    """Store a new account; it is an enabled `user` where `fields` says nothing else.

    Raises:
        AccountExists: the user name or the e-mail address is taken.
    """
    account = Account(**({"roles": ["user"]} | fields), id=account_id or new_id(), password_hash=password_hash)
    session.add(account)
    await _flush(session)
    await events.append(session, Occurrence("account.created", account.id, actor, _rights(account)))
    log.info("account_created", account_id=str(account.id), roles=account.roles)
    return account


async def find(session: AsyncSession, account_id: str) -> Account:
    """Return the account of this id.

    Raises:
        UserNotFound: there is none, or the id is not spelled as we spell ids.
    """
    account = await session.get(Account, _parse_id(account_id))
    if account is None:
        raise UserNotFound
    return account


async def find_by_login(session: AsyncSession, login: str) -> Account | None:
    """Return the account whose user name or e-mail address somebody signs in with."""
    if "@" in login:
        try:
            email = normalize_email(login)
        except ValueError:
            return None
        matches = Account.email_canonical == canonical_email(email)
    elif "\0" in login:
        return None  # PostgreSQL takes none in a text
    else:
        matches = Account.username_canonical == canonical_username(login)
    return (await session.scalars(select(Account).where(matches))).one_or_none()


async def page(session: AsyncSession, *, after: UUID | None, limit: int) -> Sequence[Account]:
    """Return at most `limit` accounts in the order of their ids, from the one behind `after`."""
    query = select(Account).order_by(Account.id).limit(limit)
    if after is not None:
        query = query.where(Account.id > after)
    return (await session.scalars(query)).all()


async def change(
    session: AsyncSession, account: Account, fields: Changes, *, actor: str | None, only_if: Condition
) -> None:
    """Set the given fields.

    Raises:
        AccountExists: the user name or the e-mail address is taken.
        LastAdministrator: nobody could administer any more.
        UserNotFound: the account was deleted a moment ago.
    """
    if fields.get("disabled") or "admin" not in fields.get("roles", ["admin"]):
        await _keep_an_administrator(session, account)
    await _lock(session, account)
    only_if(account)
    for name, value in fields.items():
        setattr(account, name, value)
    await _flush(session)
    details = {"fields": sorted(fields), **_rights(account)}
    await events.append(session, Occurrence("account.changed", account.id, actor, details))
    log.info("account_changed", account_id=str(account.id), fields=sorted(fields))


async def delete(session: AsyncSession, account: Account, *, actor: str | None, only_if: Condition) -> None:
    """Delete an account; it is kept aside, so that it can be restored.

    Raises:
        LastAdministrator: nobody could administer any more.
        UserNotFound: the account was deleted a moment ago.
    """
    await _keep_an_administrator(session, account)
    await _lock(session, account)
    only_if(account)
    session.add(DeletedAccount(**_columns(account)))
    await session.delete(account)
    await session.flush()
    await events.append(session, Occurrence("account.deleted", account.id, actor))
    log.info("account_deleted", account_id=str(account.id))


async def restore(session: AsyncSession, account_id: str, *, actor: str | None) -> Account:
    """Make a deleted account as it was; one that is not deleted stays as it is.

    Raises:
        UserNotFound: no account has this id, or it was erased.
        AccountExists: somebody else has taken the user name or the e-mail address since.
    """
    try:
        deleted = await find_deleted(session, account_id)
    except UserNotFound:
        return await find(session, account_id)
    account = Account(**_columns(deleted) | {"updated_at": utc_now()})
    session.add(account)
    await session.delete(deleted)
    await _flush(session)
    await events.append(session, Occurrence("account.restored", account.id, actor, _rights(account)))
    log.info("account_restored", account_id=account_id)
    return account


async def erase(
    session: AsyncSession, account: Account | DeletedAccount, *, actor: str | None, only_if: Condition
) -> None:
    """Remove all that is known of somebody, for good. Events keep the id, which tells nothing then.

    Raises:
        LastAdministrator: nobody could administer any more.
        UserNotFound: the account was deleted a moment ago.
    """
    if isinstance(account, Account):
        await _keep_an_administrator(session, account)
        await _lock(session, account)
        only_if(account)
    await session.delete(account)
    await session.execute(sql_delete(IdempotencyKey).where(IdempotencyKey.account_id == account.id))
    await session.flush()
    await events.append(session, Occurrence("account.erased", account.id, actor))
    log.info("account_erased", account_id=str(account.id))


async def find_deleted(session: AsyncSession, account_id: str) -> DeletedAccount:
    """Return the deleted account of this id, and keep others from restoring or erasing it.

    Raises:
        UserNotFound: no deleted account has this id.
    """
    deleted = await session.get(DeletedAccount, _parse_id(account_id), with_for_update=True)
    if deleted is None:
        raise UserNotFound
    return deleted


async def has_administrator(session: AsyncSession) -> bool:
    """Tell whether an account, enabled or not, has the role `admin`."""
    return (await session.scalars(select(Account.id).where(Account.role_admin).limit(1))).first() is not None


async def _keep_an_administrator(session: AsyncSession, account: Account) -> None:
    """Refuse to lose the last enabled administrator, also to two callers at once.

    PostgreSQL lets two transactions each remove a different one: so each locks all of them, in one
    order and before any other row.
    """
    enabled = select(Account.id).where(Account.role_admin, Account.disabled.is_(False))
    administrators = await session.scalars(enabled.order_by(Account.id).with_for_update())
    if administrators.all() == [account.id]:
        raise LastAdministrator


async def _lock(session: AsyncSession, account: Account) -> None:
    """Keep others from changing the account until the transaction ends."""
    if await session.get(Account, account.id, with_for_update=True, populate_existing=True) is None:
        raise UserNotFound


def _rights(account: Account) -> dict[str, Any]:
    """Return what an event says of what an account may do."""
    return {"roles": account.roles, "disabled": account.disabled}


def _columns(record: Account | DeletedAccount) -> dict[str, Any]:
    """Return what accounts and deleted ones have in common."""
    shared = set(Account.__table__.columns.keys()) & set(DeletedAccount.__table__.columns.keys())
    return {name: getattr(record, name) for name in shared}


async def _flush(session: AsyncSession) -> None:
    try:
        await session.flush()
    except IntegrityError as error:
        # The first line names the index or column; further ones may repeat what was sent.
        conflict = str(error.orig).splitlines()[0]
        for field in ("username", "email"):
            if f"{field}_canonical" in conflict:
                raise AccountExists(field) from None
        raise


def _parse_id(text: str) -> UUID:
    try:
        account_id = UUID(text)
    except ValueError:
        raise UserNotFound from None
    if str(account_id) != text:
        raise UserNotFound
    return account_id
