"""Which accounts, and which of their fields, a caller may reach."""

from servicekit.auth import SCOPES, Principal
from servicekit.logs import get_audit_log
from sqlalchemy.ext.asyncio import AsyncSession

from users_service import accounts
from users_service.accounts import Changes, Condition
from users_service.errors import AccountGone, FieldForbidden, MissingScope, ScopeExceeded, UserNotFound
from users_service.tables import Account, DeletedAccount

audit = get_audit_log()

READ_ALL, WRITE_ALL, OWN = "users:read", "users:write", "profile"

ADMINISTRATION = frozenset(SCOPES) - {OWN}
"""What the role `admin` gives, but for what is about one's own account: a client has none."""


async def find_reachable(session: AsyncSession, caller: Principal, account_id: str, *, scope: str) -> Account:
    """Return the account of this id, if the caller has `scope`, or `profile` and it is their own.

    To others an account that exists looks like one that does not, so that ids cannot be probed.

    Raises:
        UserNotFound: there is no such account, or the caller may not know of it.
        MissingScope: the caller may read every account and lacks `scope`, or has no scope for this.
        ScopeExceeded: it is to be changed, and it is an administrator's who may do what the caller may not.
        AccountGone: it is the caller's own, and it was deleted or disabled.
    """
    if scope in caller.scopes:
        account = await accounts.find(session, account_id)
        if scope == WRITE_ALL:
            _check_change(caller, account)
        return account
    if _is_own(caller, account_id):
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


def check_rank(caller: Principal, account: Account | DeletedAccount) -> None:
    """Let those alone decide over an administrator who may do all that an administrator may.

    Whoever sets the password of one can sign in as one.

    Raises:
        ScopeExceeded: the caller lacks a scope.
    """
    if account.role_admin:
        _require_administration(caller)


def ranked(caller: Principal, condition: Condition) -> Condition:
    """Return `condition` with the check that `find_reachable` has made: it may be an administrator's since."""

    def check(account: Account | DeletedAccount) -> None:
        _check_change(caller, account)
        condition(account)

    return check


def check_fields(caller: Principal | None, fields: Changes) -> None:
    """Let administrators alone set what decides over rights, and give nobody more than they have.

    Raises:
        FieldForbidden: a field is given that the caller may not set.
        ScopeExceeded: the role `admin` is given, and the caller lacks a scope that it gives.
    """
    if caller is None or WRITE_ALL not in caller.scopes:
        for field in ("roles", "disabled"):
            if field in fields:
                raise FieldForbidden(field)
    elif "admin" in fields.get("roles", ()):
        _require_administration(caller)


def _require_administration(caller: Principal) -> None:
    if missing := ADMINISTRATION - caller.scopes:
        audit.info("access_refused", missing=sorted(missing), client_id=caller.client_id)
        raise ScopeExceeded(missing)


def _check_change(caller: Principal, account: Account | DeletedAccount) -> None:
    if not _is_own(caller, str(account.id)):
        check_rank(caller, account)


def _is_own(caller: Principal, account_id: str) -> bool:
    return OWN in caller.scopes and account_id == caller.subject
