"""Accounts: create, find, list, change, delete. The unique indexes decide who has a name."""

from collections.abc import Collection, Sequence
from typing import TypedDict
from uuid import UUID

from servicekit.logs import get_logger
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from users_service.errors import AccountExists, LastAdministrator, UserNotFound
from users_service.identifiers import canonical_email, canonical_username, normalize_email
from users_service.tables import Account, Role

log = get_logger(__name__)


class Changes(TypedDict, total=False):
    """The fields that a caller has given."""

    username: str
    email: str
    full_name: str | None
    disabled: bool
    roles: Collection[Role]


async def create(session: AsyncSession, fields: Changes, *, password_hash: str | None) -> Account:
    """Store a new account; it is an enabled `user` where `fields` says nothing else.

    Raises:
        AccountExists: the user name or the e-mail address is taken.
    """
    account = Account(**({"roles": ["user"]} | fields), password_hash=password_hash)
    session.add(account)
    await _flush(session)
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


async def change(session: AsyncSession, account: Account, fields: Changes) -> None:
    """Set the given fields.

    Raises:
        AccountExists: the user name or the e-mail address is taken.
        LastAdministrator: nobody could administer any more.
        UserNotFound: the account was deleted a moment ago.
    """
    if fields.get("disabled") or "admin" not in fields.get("roles", ["admin"]):
        await _keep_an_administrator(session, account)
    await _lock(session, account)
    for name, value in fields.items():
        setattr(account, name, value)
    await _flush(session)
    log.info("account_changed", account_id=str(account.id), fields=sorted(fields))


async def delete(session: AsyncSession, account: Account) -> None:
    """Delete an account.

    Raises:
        LastAdministrator: nobody could administer any more.
        UserNotFound: the account was deleted a moment ago.
    """
    await _keep_an_administrator(session, account)
    await _lock(session, account)
    await session.delete(account)
    await session.flush()
    log.info("account_deleted", account_id=str(account.id))


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
