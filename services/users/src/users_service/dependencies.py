"""What the lifespan has opened, as parameters of endpoints."""

from typing import Annotated, TypedDict

from fastapi import Depends, Header, Path, Request
from fastapi.security import SecurityScopes
from pydantic.json_schema import SkipJsonSchema
from servicekit.auth import Principal, Verifications, bearer, get_principal, require_scope
from servicekit.database import Database, get_session
from servicekit.rate_limits import RateLimit
from servicekit.state import of_state
from servicekit.tokens import TokenVerifier
from sqlalchemy.ext.asyncio import AsyncSession

from users_service.access import OWN, READ_ALL, WRITE_ALL
from users_service.attempts import Guard
from users_service.cursors import Cursors
from users_service.passwords import Passwords
from users_service.settings import UsersSettings


class State(TypedDict):
    """The state of the running service."""

    settings: UsersSettings
    database: Database
    passwords: Passwords
    guard: Guard
    sign_up_limit: RateLimit
    cursors: Cursors
    verifier: TokenVerifier
    verifications: Verifications


SettingsDep = Annotated[UsersSettings, Depends(of_state("settings"))]
DatabaseDep = Annotated[Database, Depends(of_state("database"))]
get_passwords = of_state("passwords")
PasswordsDep = Annotated[Passwords, Depends(get_passwords)]
GuardDep = Annotated[Guard, Depends(of_state("guard"))]
SignUpLimitDep = Annotated[RateLimit, Depends(of_state("sign_up_limit"))]
CursorsDep = Annotated[Cursors, Depends(of_state("cursors"))]
SessionDep = Annotated[AsyncSession, Depends(get_session, scope="function")]

Caller = Annotated[Principal, require_scope()]
Owner = Annotated[Principal, require_scope(OWN)]
Reader = Annotated[Principal, require_scope(READ_ALL)]
Writer = Annotated[Principal, require_scope(WRITE_ALL)]
Service = Annotated[Principal, require_scope("internal:accounts")]

UserId = Annotated[
    str,
    Path(
        description="A UUID in lower case. Anything else, and any account that is not yours to see, is not found.",
        examples=["01920000-0000-7000-8000-000000000000"],
    ),
]

IdempotencyKey = Annotated[
    str | SkipJsonSchema[None],
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="Any text of the client's own, new for each account: a repeated request creates one account.",
        json_schema_extra={"format": "idempotency-key"},
    ),
]


async def authenticate_creator(
    request: Request, settings: SettingsDep, token: Annotated[str | None, Depends(bearer)]
) -> Principal | None:
    """Return who creates an account: in open sign-up it may be somebody without a token.

    Raises:
        Unauthorized: a token is missing, or it is not valid.
        Forbidden: sign-up is for administrators, and the caller is none.
    """
    is_open = settings.sign_up == "open"
    if is_open and "Authorization" not in request.headers:
        return None
    return await get_principal(SecurityScopes([] if is_open else [WRITE_ALL]), request, token)


Creator = Annotated[Principal | None, Depends(authenticate_creator)]
