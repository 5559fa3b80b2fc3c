"""Signing in and changing passwords. No transaction is open while a hash is computed.

A hash takes tens of milliseconds and may have to wait; SQLite has one writer.
"""

from typing import Any
from uuid import UUID

from servicekit.auth import Principal
from servicekit.database import Database
from servicekit.logs import get_audit_log
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession

from users_service import access, accounts, events
from users_service.attempts import Guard
from users_service.errors import WrongPassword
from users_service.events import Occurrence
from users_service.identifiers import canonical_login
from users_service.passwords import Passwords
from users_service.tables import Account, DeletedAccount

audit = get_audit_log()


def names_of(account: Account | DeletedAccount) -> tuple[str, ...]:
    """Return all names that attempts at the passwords of an account are counted by."""
    return _login_name(account.username), _login_name(account.email), _own_name(account.id)


async def verify(
    database: Database, passwords: Passwords, guard: Guard, login: str, password: str, *, address: str
) -> tuple[Account, int] | None:
    """Return the account that these credentials sign in to, and the number of the last event before it was read.

    Unknown, disabled, without a password, wrong password: each computes one hash and is None.

    Raises:
        TooManyAttempts: at this name, or from this address; no hash is computed.
        Overloaded: too many hashes are being computed.
    """
    async with guard.attempt(_login_name(login), address) as attempt:
        verified = await _verify(database, passwords, login, password)
        attempt.is_right = verified is not None
    return verified


async def _verify(database: Database, passwords: Passwords, login: str, password: str) -> tuple[Account, int] | None:
    async with database.begin() as session:
        # Before the account: a change that comes between the two must not pass for known.
        last_event = await events.last_sequence(session)
        account = await accounts.find_by_login(session, login)
    stored = account.password_hash if account is not None and not account.disabled else None
    verdict = await passwords.verify(password, stored)
    if account is None or not verdict.is_right:
        return None
    if verdict.upgraded_hash is not None:
        async with database.begin() as session:
            # As it was: for its reader the account is the same, and so has to be its tag.
            await _replace_hash(session, account, verdict.upgraded_hash, updated_at=Account.updated_at)
        audit.info("password_hash_upgraded", account_id=str(account.id))
    return account, last_event


async def change_own(
    database: Database, passwords: Passwords, guard: Guard, caller: Principal, current: str, new: str, *, address: str
) -> None:
    """Set the password of a caller who knows the current one.

    Raises:
        AccountGone: the caller has no account that can be used.
        WrongPassword: `current` is not right, or not any more.
        TooManyAttempts: at `current`; no hash is computed.
        WeakPassword: `new` is easy to guess.
        Overloaded: too many hashes are being computed.
    """
    async with database.begin() as session:
        account = await access.find_own(session, caller)
    async with guard.attempt(_own_name(account.id), address) as attempt:
        attempt.is_right = (await passwords.verify(current, account.password_hash)).is_right
    if not attempt.is_right:
        raise WrongPassword
    new_hash = await passwords.hash(
        new, field="body.new_password", about=(account.username, account.email, account.full_name)
    )
    async with database.begin() as session:
        if not await _replace_hash(session, account, new_hash):
            raise WrongPassword
        # Auth ends the other sessions, and lets the one go on that the change came from.
        details = {"session_id": caller.session_id} if caller.session_id else {}
        await events.append(session, Occurrence("password.changed", account.id, caller.subject, details))
    audit.info("password_changed", account_id=str(account.id))


async def reset(database: Database, passwords: Passwords, caller: Principal, account_id: str, new: str) -> None:
    """Set the password of any account.

    Raises:
        UserNotFound: there is no account of this id.
        ScopeExceeded: it is an administrator's who may do what the caller may not.
        WeakPassword: `new` is easy to guess.
        Overloaded: too many hashes are being computed.
    """
    async with database.begin() as session:
        account = await accounts.find(session, account_id)
        access.check_rank(caller, account)
    new_hash = await passwords.hash(
        new, field="body.new_password", about=(account.username, account.email, account.full_name)
    )
    async with database.begin() as session:
        account = await accounts.find(session, account_id)
        await accounts.lock(session, account)
        access.check_rank(caller, account)
        account.password_hash = new_hash
        await session.flush()
        await events.append(session, Occurrence("password.reset", account.id, caller.subject))
    audit.info("password_reset", account_id=str(account.id))


def _login_name(login: str) -> str:
    return f"login {canonical_login(login)}"


def _own_name(account_id: UUID) -> str:
    return f"own {account_id}"


async def _replace_hash(session: AsyncSession, account: Account, new_hash: str, **others: Any) -> bool:
    """Replace the hash that was verified; False if it is no longer the stored one."""
    result = await session.execute(
        update(Account)
        .where(Account.id == account.id, Account.password_hash == account.password_hash)
        .values(password_hash=new_hash, **others)
        .returning(Account.id)
    )
    return result.first() is not None
