"""The caller's own account."""

from fastapi import APIRouter, Response
from servicekit.connections import DatabaseUnavailable
from servicekit.problem import BodyTooSlow, ContentTooLarge, Forbidden, Unauthorized, problem_responses

from users_service import access, accounts, events
from users_service.dependencies import Owner, SessionDep
from users_service.errors import (
    AccountExists,
    AccountGone,
    FieldForbidden,
    LastAdministrator,
    MalformedBody,
    MethodNotAllowed,
    PreconditionFailed,
    PreconditionRequired,
    ScopeExceeded,
    UserNotFound,
)
from users_service.links import OWN_ACCOUNT
from users_service.preconditions import ETAG, NOT_MODIFIED, ConditionDep, IsKnown, conditional, tagged
from users_service.schemas import MERGE_PATCH, Export, OwnEvent, User, UserPatch

router = APIRouter(tags=["profile"])


@router.get(
    "/users/me",
    response_model=User,
    responses={
        **NOT_MODIFIED,
        200: {**NOT_MODIFIED[200], "links": OWN_ACCOUNT},
        **problem_responses(Unauthorized, AccountGone, Forbidden, DatabaseUnavailable),
    },
)
async def read_me(caller: Owner, session: SessionDep, response: Response, is_known: IsKnown) -> User | Response:
    """Read one's own account."""
    return conditional(await access.find_own(session, caller), response, is_known)


@router.patch(
    "/users/me",
    responses={
        200: {"headers": ETAG},
        **problem_responses(
            MalformedBody,
            Unauthorized,
            AccountGone,
            Forbidden,
            FieldForbidden,
            ScopeExceeded,
            AccountExists,
            LastAdministrator,
            PreconditionFailed,
            BodyTooSlow,
            ContentTooLarge,
            PreconditionRequired,
            DatabaseUnavailable,
        ),
    },
    openapi_extra=MERGE_PATCH,
)
async def patch_me(
    body: UserPatch, caller: Owner, session: SessionDep, response: Response, condition: ConditionDep
) -> User:
    """Change fields of one's own account; `disabled` and `roles` are for administrators."""
    account = await access.find_own(session, caller)
    fields = body.changes()
    access.check_fields(caller, fields)
    try:
        await accounts.change(session, account, fields, actor=caller.subject, only_if=condition)
    except UserNotFound:
        raise AccountGone from None  # a moment ago
    return tagged(account, response)


@router.get(
    "/users/me/export",
    responses=problem_responses(Unauthorized, AccountGone, Forbidden, DatabaseUnavailable),
)
async def export_me(caller: Owner, session: SessionDep, response: Response) -> Export:
    """Take away all that is kept of one's own account, and all that happened to it."""
    account = await access.find_own(session, caller)
    response.headers["Content-Disposition"] = 'attachment; filename="account.json"'
    return Export(
        account=User.model_validate(account),
        has_password=account.password_hash is not None,
        events=[OwnEvent.model_validate(event) for event in await events.read_about(session, account.id)],
    )


@router.api_route("/users/me", methods=["PUT", "DELETE"], include_in_schema=False)
async def refuse() -> None:
    """Keep `/users/{user_id}` from taking `me` for an id."""
    raise MethodNotAllowed("use the id of the account", headers={"Allow": "GET, HEAD, PATCH"})
