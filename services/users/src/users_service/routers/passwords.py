"""Changing passwords."""

from fastapi import APIRouter
from servicekit.addresses import AddressDep
from servicekit.connections import DatabaseUnavailable
from servicekit.problem import BodyTooSlow, ContentTooLarge, Forbidden, Unauthorized, problem_responses

from users_service import credentials
from users_service.dependencies import DatabaseDep, GuardDep, Owner, PasswordsDep, UserId, Writer
from users_service.errors import (
    AccountGone,
    MalformedBody,
    Overloaded,
    ScopeExceeded,
    TooManyAttempts,
    UserNotFound,
    WrongPassword,
)
from users_service.schemas import PasswordChange, PasswordReset

router = APIRouter(tags=["passwords"])


@router.post(
    "/users/me/password",
    status_code=204,
    responses=problem_responses(
        MalformedBody,
        Unauthorized,
        AccountGone,
        Forbidden,
        WrongPassword,
        BodyTooSlow,
        ContentTooLarge,
        TooManyAttempts,
        Overloaded,
        DatabaseUnavailable,
    ),
)
async def change_password(
    body: PasswordChange,
    caller: Owner,
    database: DatabaseDep,
    passwords: PasswordsDep,
    guard: GuardDep,
    address: AddressDep,
) -> None:
    """Change one's own password, knowing the current one."""
    await credentials.change_own(
        database,
        passwords,
        guard,
        caller,
        body.current_password.get_secret_value(),
        body.new_password.get_secret_value(),
        address=address,
    )


@router.post(
    "/users/{user_id}/password",
    status_code=204,
    responses=problem_responses(
        MalformedBody,
        Unauthorized,
        Forbidden,
        ScopeExceeded,
        UserNotFound,
        BodyTooSlow,
        ContentTooLarge,
        Overloaded,
        DatabaseUnavailable,
    ),
)
async def reset_password(
    user_id: UserId, body: PasswordReset, caller: Writer, database: DatabaseDep, passwords: PasswordsDep
) -> None:
    """Set the password of any account; that of an administrator with the scopes of one."""
    await credentials.reset(database, passwords, caller, user_id, body.new_password.get_secret_value())
