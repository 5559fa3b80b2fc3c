"""Accounts by id, and all of them."""

import base64
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response
from servicekit.connections import DatabaseUnavailable
from servicekit.problem import (
    ContentTooLarge,
    FieldError,
    Forbidden,
    InvalidRequest,
    Unauthorized,
    problem_responses,
)

from users_service import access, accounts
from users_service.access import READ_ALL, WRITE_ALL
from users_service.dependencies import Caller, Creator, PasswordsDep, Reader, SessionDep, UserId
from users_service.errors import (
    AccountExists,
    AccountGone,
    FieldForbidden,
    LastAdministrator,
    MalformedBody,
    Overloaded,
    UserNotFound,
)
from users_service.schemas import MERGE_PATCH, NewUser, User, UserPatch, UserReplacement

router = APIRouter(tags=["users"])

CHANGE_PROBLEMS = problem_responses(
    MalformedBody,
    Unauthorized,
    AccountGone,
    Forbidden,
    FieldForbidden,
    UserNotFound,
    AccountExists,
    LastAdministrator,
    ContentTooLarge,
    DatabaseUnavailable,
)


@router.post(
    "/users",
    status_code=201,
    responses={
        201: {"headers": {"Location": {"description": "The path of the account.", "schema": {"type": "string"}}}},
        **problem_responses(
            MalformedBody,
            Unauthorized,
            Forbidden,
            FieldForbidden,
            AccountExists,
            ContentTooLarge,
            Overloaded,
            DatabaseUnavailable,
        ),
    },
    # `bearer` by itself declares the scheme and no scopes; a token is optional where sign-up is open.
    openapi_extra={"security": [{}]},
)
async def create_user(
    body: NewUser, creator: Creator, passwords: PasswordsDep, session: SessionDep, response: Response
) -> User:
    """Sign up, or create an account for somebody.

    Where sign-up is open, everybody may, with a `password`; a token is not needed, and a bad one
    is refused. Where it is for administrators, the scope `users:write` is needed. Only that scope
    may leave the password out or set `roles` and `disabled`; without them the account is an
    enabled `user`.
    """
    fields = body.changes()
    access.check_fields(creator, fields)
    password_hash = None
    if body.password is not None:
        # Before the session is used: no transaction waits for a hash.
        password_hash = await passwords.hash(body.password.get_secret_value())
    elif creator is None or WRITE_ALL not in creator.scopes:
        raise InvalidRequest(
            "a password is required", errors=[FieldError(field="body.password", detail="Field required")]
        )
    account = await accounts.create(session, fields, password_hash=password_hash)
    response.headers["Location"] = f"/users/{account.id}"
    return User.model_validate(account)


@router.get(
    "/users",
    responses={
        200: {
            "headers": {
                "Link": {
                    "description": 'The next page, `rel="next"`; absent on the last one (RFC 8288).',
                    "schema": {"type": "string"},
                }
            }
        },
        **problem_responses(Unauthorized, Forbidden, DatabaseUnavailable),
    },
)
async def list_users(
    _caller: Reader,
    session: SessionDep,
    response: Response,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(pattern="^[A-Za-z0-9_-]{22}$", description="From a `Link` header.")] = None,
) -> list[User]:
    """List the accounts, in the order in which they were created."""
    found = await accounts.page(session, after=_read_cursor(cursor) if cursor else None, limit=limit + 1)
    if len(found) > limit:
        following = _write_cursor(found[limit - 1].id)
        response.headers["Link"] = f'</users?limit={limit}&cursor={following}>; rel="next"'
    return [User.model_validate(account) for account in found[:limit]]


@router.get(
    "/users/{user_id}",
    responses=problem_responses(Unauthorized, AccountGone, Forbidden, UserNotFound, DatabaseUnavailable),
)
async def read_user(user_id: UserId, caller: Caller, session: SessionDep) -> User:
    """Read one's own account (scope `profile`), or any (`users:read`)."""
    return User.model_validate(await access.find_reachable(session, caller, user_id, scope=READ_ALL))


@router.put("/users/{user_id}", responses=CHANGE_PROBLEMS)
async def replace_user(user_id: UserId, body: UserReplacement, caller: Caller, session: SessionDep) -> User:
    """Replace one's own account (scope `profile`), or any (`users:write`).

    A `full_name` that is left out is removed. `disabled` and `roles` are for administrators, and
    stay as they are when left out.
    """
    return await _change(session, caller, user_id, body)


@router.patch("/users/{user_id}", responses=CHANGE_PROBLEMS, openapi_extra=MERGE_PATCH)
async def patch_user(user_id: UserId, body: UserPatch, caller: Caller, session: SessionDep) -> User:
    """Change fields of one's own account (scope `profile`), or of any (`users:write`).

    `disabled` and `roles` are for administrators.
    """
    return await _change(session, caller, user_id, body)


@router.delete(
    "/users/{user_id}",
    responses=problem_responses(
        Unauthorized, AccountGone, Forbidden, UserNotFound, LastAdministrator, DatabaseUnavailable
    ),
)
async def delete_user(user_id: UserId, caller: Caller, session: SessionDep) -> User:
    """Delete one's own account (scope `profile`), or any (`users:write`), and return it."""
    account = await access.find_reachable(session, caller, user_id, scope=WRITE_ALL)
    await accounts.delete(session, account)
    return User.model_validate(account)


async def _change(session: SessionDep, caller: Caller, user_id: str, body: UserReplacement | UserPatch) -> User:
    account = await access.find_reachable(session, caller, user_id, scope=WRITE_ALL)
    fields = body.changes()
    access.check_fields(caller, fields)
    await accounts.change(session, account, fields)
    return User.model_validate(account)


def _write_cursor(account_id: UUID) -> str:
    return base64.urlsafe_b64encode(account_id.bytes).rstrip(b"=").decode("ascii")


def _read_cursor(cursor: str) -> UUID:
    return UUID(bytes=base64.urlsafe_b64decode(cursor + "=="))
