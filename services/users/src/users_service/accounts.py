"""Accounts: create, find, change. The unique indexes decide who has a name."""

from collections.abc import Callable, Collection
from typing import Any, TypedDict
from uuid import UUID

from servicekit.database import new_id
from servicekit.logs import get_audit_log
from sqlalchemy import literal, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from users_service import events
from users_service.errors import AccountExists, LastAdministrator, UserNotFound
from users_service.events import Occurrence
from users_service.identifiers import canonical_login
from users_service.tables import Account, DeletedAccount, Role

audit = get_audit_log()


Condition = Callable[[Account | DeletedAccount], None]
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
    await flush(session)
    await events.append(session, Occurrence("account.created", account.id, actor, rights(account)))
    audit.info("account_created", account_id=str(account.id), roles=account.roles)
    return account


async def find(session: AsyncSession, account_id: str) -> Account:
    """Return the account of this id.

    Raises:
        UserNotFound: there is none, or the id is not spelled as we spell ids.
    """
    account = await session.get(Account, parse_id(account_id))
    if account is None:
        raise UserNotFound
    return account


async def find_by_login(session: AsyncSession, login: str) -> Account | None:
    """Return the account whose user name or e-mail address somebody signs in with."""
    if "\0" in login:
        return None  # PostgreSQL takes none in a text
    column = Account.email_canonical if "@" in login else Account.username_canonical
    return (await session.scalars(select(Account).where(column == canonical_login(login)))).one_or_none()


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
        await keep_an_administrator(session, account)
    await lock(session, account)
    only_if(account)
    before = {name: getattr(account, name) for name in fields}
    for name, value in fields.items():
        setattr(account, name, value)
    changed = sorted(name for name, value in before.items() if getattr(account, name) != value)
    await flush(session)
    details = {"fields": changed, **rights(account)}
    await events.append(session, Occurrence("account.changed", account.id, actor, details))
    audit.info("account_changed", account_id=str(account.id), fields=changed, **rights(account))


async def has_administrator(session: AsyncSession) -> bool:
    """Tell whether an account, enabled or not, has the role `admin`."""
    return (await session.scalars(select(Account.id).where(Account.role_admin).limit(1))).first() is not None


async def keep_an_administrator(session: AsyncSession, account: Account) -> None:
    """Refuse to lose the last enabled administrator, also to two callers at once.

    Raises:
        LastAdministrator: the account is the only one.

    PostgreSQL lets two transactions each remove a different one: so each locks all of them, in one
    order and before any other row. The account is locked with them, in its place: it may become one
    in this moment.
    """
    other = aliased(Account)
    administrators = select(other.id).where(other.role_admin, other.disabled.is_(False))
    query = select(Account.id, Account.role_admin, Account.disabled)
    query = query.where(Account.id.in_(administrators.union(select(literal(account.id)))))
    rows = await session.execute(query.order_by(Account.id).with_for_update())
    if [row.id for row in rows if row.role_admin and not row.disabled] == [account.id]:
        raise LastAdministrator


async def lock(session: AsyncSession, account: Account) -> None:
    """Keep others from changing the account until the transaction ends.

    Raises:
        UserNotFound: it was deleted a moment ago.
    """
    if await session.get(Account, account.id, with_for_update=True, populate_existing=True) is None:
        raise UserNotFound


def rights(account: Account) -> dict[str, Any]:
    """Return what an event says of what an account may do."""
    return {"roles": account.roles, "disabled": account.disabled}


async def flush(session: AsyncSession) -> None:
    """Send what is pending.

    Raises:
        AccountExists: the user name or the e-mail address of an account is taken.
    """
    try:
        await session.flush()
    except IntegrityError as error:
        for field in ("username", "email"):
            if f"{field}_canonical" in str(error.orig):  # it names the index or column, and repeats no value
                raise AccountExists(field) from None
        raise


def parse_id(text: str) -> UUID:
    """Return an id of a path.

    Raises:
        UserNotFound: it is not spelled as we spell ids.
    """
    try:
        account_id = UUID(text)
    except ValueError:
        raise UserNotFound from None
    if str(account_id) != text:
        raise UserNotFound
    return account_id
