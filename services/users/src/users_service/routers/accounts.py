"""Accounts: create them, and reach one by its id."""

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from servicekit.addresses import AddressDep
from servicekit.connections import DatabaseUnavailable
from servicekit.problem import (
    BodyTooSlow,
    ContentTooLarge,
    FieldError,
    Forbidden,
    InvalidRequest,
    Unauthorized,
    problem_responses,
)

from users_service import access, accounts, deletion, idempotency
from users_service.access import READ_ALL, WRITE_ALL
from users_service.accounts import Condition
from users_service.dependencies import (
    Caller,
    Creator,
    GuardDep,
    IdempotencyKey,
    PasswordsDep,
    SessionDep,
    SignUpLimitDep,
    UserId,
    Writer,
)
from users_service.errors import (
    AccountExists,
    AccountGone,
    FieldForbidden,
    IdempotencyKeyReused,
    LastAdministrator,
    MalformedBody,
    Overloaded,
    PreconditionFailed,
    PreconditionRequired,
    ScopeExceeded,
    TooManySignUps,
    UserNotFound,
)
from users_service.idempotency import AlreadyCreated
from users_service.links import CREATED_ACCOUNT, DELETED_ACCOUNT
from users_service.passwords import Passwords
from users_service.preconditions import ETAG, NOT_MODIFIED, ConditionDep, IsKnown, conditional, tagged
from users_service.schemas import MERGE_PATCH, NewUser, User, UserPatch, UserReplacement
from users_service.tables import Account, DeletedAccount

router = APIRouter(tags=["users"])

CHANGE_PROBLEMS = problem_responses(
    MalformedBody,
    Unauthorized,
    AccountGone,
    Forbidden,
    FieldForbidden,
    ScopeExceeded,
    UserNotFound,
    AccountExists,
    LastAdministrator,
    PreconditionFailed,
    BodyTooSlow,
    ContentTooLarge,
    PreconditionRequired,
    DatabaseUnavailable,
)
CHANGE_RESPONSES: dict[int | str, dict[str, Any]] = {200: {"headers": ETAG}, **CHANGE_PROBLEMS}


@router.post(
    "/users",
    status_code=201,
    responses={
        201: {
            "headers": {"Location": {"description": "The path of the account.", "schema": {"type": "string"}}, **ETAG},
            "links": CREATED_ACCOUNT,
        },
        **problem_responses(
            MalformedBody,
            Unauthorized,
            Forbidden,
            FieldForbidden,
            ScopeExceeded,
            AccountExists,
            IdempotencyKeyReused,
            BodyTooSlow,
            ContentTooLarge,
            TooManySignUps,
            Overloaded,
            DatabaseUnavailable,
        ),
    },
    # `bearer` by itself declares the scheme and no scopes; a token is optional where sign-up is open.
    openapi_extra={"security": [{}]},
)
async def create_user(
    body: NewUser,
    creator: Creator,
    passwords: PasswordsDep,
    session: SessionDep,
    response: Response,
    sign_ups: SignUpLimitDep,
    address: AddressDep,
    idempotency_key: IdempotencyKey = None,
) -> User:
    """Sign up, or create an account for somebody.

    Where sign-up is open, everybody may, with a `password`; a token is not needed, and a bad one
    is refused. Where it is for administrators, the scope `users:write` is needed. Only that scope
    may leave the password out or set `roles` and `disabled`; without them the account is an
    enabled `user`. The role `admin` is given by those alone who have its scopes. A request that is
    repeated with the same `Idempotency-Key` within a day creates nothing anew: it is answered with
    the account that is there.
    """
    is_administrator = creator is not None and WRITE_ALL in creator.scopes
    if not is_administrator and (wait_seconds := await sign_ups.hit(address)):
        raise TooManySignUps(retry_after_seconds=wait_seconds)
    fields = body.changes()
    access.check_fields(creator, fields)
    # Before the session is used: no transaction waits for a hash.
    password_hash = await _hash_password(body, passwords, is_required=not is_administrator)
    actor = creator.subject if creator else None
    try:
        account_id = None
        if idempotency_key is not None:
            account_id = await idempotency.claim(session, key=idempotency_key, actor=actor, fields=fields)
        account = await accounts.create(
            session, fields, password_hash=password_hash, actor=actor, account_id=account_id
        )
    except AlreadyCreated as earlier:
        account = earlier.account
    response.headers["Location"] = f"/users/{account.id}"
    return tagged(account, response)


@router.get(
    "/users/{user_id}",
    response_model=User,
    responses=NOT_MODIFIED | problem_responses(Unauthorized, AccountGone, Forbidden, UserNotFound, DatabaseUnavailable),
)
async def read_user(
    user_id: UserId, caller: Caller, session: SessionDep, response: Response, is_known: IsKnown
) -> User | Response:
    """Read one's own account (scope `profile`), or any (`users:read`)."""
    return conditional(await access.find_reachable(session, caller, user_id, scope=READ_ALL), response, is_known)


@router.put("/users/{user_id}", responses=CHANGE_RESPONSES)
async def replace_user(
    user_id: UserId,
    body: UserReplacement,
    caller: Caller,
    session: SessionDep,
    response: Response,
    condition: ConditionDep,
) -> User:
    """Replace one's own account (scope `profile`), or any (`users:write`).

    A `full_name` that is left out is removed. `disabled` and `roles` are for administrators, and
    stay as they are when left out. An administrator is changed by those alone who have the scopes of one.
    """
    return tagged(await _change(session, caller, user_id, body, condition), response)


@router.patch("/users/{user_id}", responses=CHANGE_RESPONSES, openapi_extra=MERGE_PATCH)
async def patch_user(
    user_id: UserId, body: UserPatch, caller: Caller, session: SessionDep, response: Response, condition: ConditionDep
) -> User:
    """Change fields of one's own account (scope `profile`), or of any (`users:write`).

    `disabled` and `roles` are for administrators. One of these is changed by those alone who have the scopes of one.
    """
    return tagged(await _change(session, caller, user_id, body, condition), response)


@router.delete(
    "/users/{user_id}",
    responses={
        200: {"links": DELETED_ACCOUNT},
        **problem_responses(
            Unauthorized,
            AccountGone,
            Forbidden,
            ScopeExceeded,
            UserNotFound,
            LastAdministrator,
            PreconditionFailed,
            PreconditionRequired,
            DatabaseUnavailable,
        ),
    },
)
async def delete_user(
    user_id: UserId,
    caller: Caller,
    session: SessionDep,
    condition: ConditionDep,
    guard: GuardDep,
    erase: Annotated[bool, Query(description="Keep nothing of it; it cannot be restored.")] = False,
) -> User:
    """Delete one's own account (scope `profile`), or any (`users:write`), and return it.

    An administrator can restore it, until it is erased: at once with `erase`, which the scope
    `users:write` can also do to an account that was deleted before.
    """
    account: Account | DeletedAccount
    try:
        account = await access.find_reachable(session, caller, user_id, scope=WRITE_ALL)
    except UserNotFound:
        if not erase or WRITE_ALL not in caller.scopes:
            raise
        account = await deletion.find(session, user_id)
    condition = access.ranked(caller, condition)
    if erase or isinstance(account, DeletedAccount):
        await deletion.erase(session, account, guard, actor=caller.subject, only_if=condition)
    else:
        await deletion.delete(session, account, actor=caller.subject, only_if=condition)
    return User.model_validate(account)


@router.post(
    "/users/{user_id}/restore",
    responses={
        200: {"headers": ETAG},
        **problem_responses(Unauthorized, Forbidden, ScopeExceeded, UserNotFound, AccountExists, DatabaseUnavailable),
    },
)
async def restore_user(user_id: UserId, caller: Writer, session: SessionDep, response: Response) -> User:
    """Make a deleted account as it was before; one that is not deleted stays as it is."""
    only_if = partial(access.check_rank, caller)
    return tagged(await deletion.restore(session, user_id, actor=caller.subject, only_if=only_if), response)


async def _hash_password(body: NewUser, passwords: Passwords, *, is_required: bool) -> str | None:
    if body.password is not None:
        about = (body.username, body.email, body.full_name)
        return await passwords.hash(body.password.get_secret_value(), field="body.password", about=about)
    if is_required:
        raise InvalidRequest(
            "a password is required", errors=[FieldError(field="body.password", detail="Field required")]
        )
    return None


async def _change(
    session: SessionDep, caller: Caller, user_id: str, body: UserReplacement | UserPatch, condition: Condition
) -> Account:
    account = await access.find_reachable(session, caller, user_id, scope=WRITE_ALL)
    fields = body.changes()
    access.check_fields(caller, fields)
    await accounts.change(session, account, fields, actor=caller.subject, only_if=access.ranked(caller, condition))
    return account
