"""The caller's own account."""

from fastapi import APIRouter
from servicekit.connections import DatabaseUnavailable
from servicekit.problem import ContentTooLarge, Forbidden, Unauthorized, problem_responses

from users_service import access, accounts
from users_service.dependencies import Owner, SessionDep
from users_service.errors import (
    AccountExists,
    AccountGone,
    FieldForbidden,
    LastAdministrator,
    MalformedBody,
    MethodNotAllowed,
)
from users_service.schemas import MERGE_PATCH, User, UserPatch

router = APIRouter(tags=["profile"])


@router.get("/users/me", responses=problem_responses(Unauthorized, AccountGone, Forbidden, DatabaseUnavailable))
async def read_me(caller: Owner, session: SessionDep) -> User:
    """Read one's own account."""
    return User.model_validate(await access.find_own(session, caller))


@router.patch(
    "/users/me",
    responses=problem_responses(
        MalformedBody,
        Unauthorized,
        AccountGone,
        Forbidden,
        FieldForbidden,
        AccountExists,
        LastAdministrator,
        ContentTooLarge,
        DatabaseUnavailable,
    ),
    openapi_extra=MERGE_PATCH,
)
async def patch_me(body: UserPatch, caller: Owner, session: SessionDep) -> User:
    """Change fields of one's own account; `disabled` and `roles` are for administrators."""
    account = await access.find_own(session, caller)
    fields = body.changes()
    access.check_fields(caller, fields)
    await accounts.change(session, account, fields)
    return User.model_validate(account)


@router.api_route("/users/me", methods=["PUT", "DELETE"], include_in_schema=False)
async def refuse() -> None:
    """Keep `/users/{user_id}` from taking `me` for an id."""
    raise MethodNotAllowed("use the id of the account", headers={"Allow": "GET, PATCH"})
