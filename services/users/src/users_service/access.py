"""Which accounts, and which of their fields, a caller may reach."""

from servicekit.auth import Principal
from sqlalchemy.ext.asyncio import AsyncSession

from users_service import accounts
from users_service.accounts import Changes
from users_service.errors import AccountGone, FieldForbidden, MissingScope, UserNotFound
from users_service.tables import Account

READ_ALL, WRITE_ALL, OWN = "users:read", "users:write", "profile"


async def find_reachable(session: AsyncSession, caller: Principal, account_id: str, *, scope: str) -> Account:
    """Return the account of this id, if the caller has `scope`, or `profile` and it is their own.

    To others an account that exists looks like one that does not, so that ids cannot be probed.

    Raises:
        UserNotFound: there is no such account, or the caller may not know of it.
        MissingScope: the caller may read every account and lacks `scope`, or has no scope for this.
        AccountGone: it is the caller's own, and it was deleted or disabled.
    """
    if scope in caller.scopes:
        return await accounts.find(session, account_id)
    if OWN in caller.scopes and account_id == caller.subject:
        return await find_own(session, caller)
    if OWN in caller.scopes and READ_ALL not in caller.scopes:
        raise UserNotFound
    raise MissingScope(scope)


async def find_own(session: AsyncSession, caller: Principal) -> Account:
    """Return the caller's account.

    Raises:
        AccountGone: it was deleted or disabled, or the caller is a client and has none.
    """
    try:
        account = await accounts.find(session, caller.subject)
    except UserNotFound:
        raise AccountGone from None
    if account.disabled:
        raise AccountGone
    return account


def check_fields(caller: Principal | None, fields: Changes) -> None:
    """Let administrators alone set what decides over rights.

    Raises:
        FieldForbidden: a field is given that the caller may not set.
    """
    if caller is not None and WRITE_ALL in caller.scopes:
        return
    for field in ("roles", "disabled"):
        if field in fields:
            raise FieldForbidden(field)
