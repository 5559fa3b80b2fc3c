"""The token endpoint (RFC 6749 section 3.2)."""

from fastapi import APIRouter, Response

from auth_service.dependencies import ClientDep, FormDep, GrantsDep
from auth_service.errors import (
    NO_STORE,
    FormTooLarge,
    InvalidClient,
    InvalidGrant,
    InvalidRequest,
    InvalidScope,
    MethodNotAllowed,
    TemporarilyUnavailable,
    UnsupportedGrantType,
    oauth_error_responses,
)
from auth_service.forms import required, required_text
from auth_service.schemas import TOKEN_FORM, TokenResponse

router = APIRouter(tags=["tokens"])

GRANT_TYPES = ("password", "refresh_token")
_OTHER_METHODS = ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]


@router.post(
    "/token",
    responses=oauth_error_responses(
        InvalidRequest,
        InvalidGrant,
        InvalidScope,
        UnsupportedGrantType,
        InvalidClient,
        FormTooLarge,
        TemporarilyUnavailable,
    ),
    openapi_extra=TOKEN_FORM,
)
async def token(form: FormDep, client: ClientDep, grants: GrantsDep, response: Response) -> TokenResponse:
    """Sign in with a password, or get the next tokens for a refresh token.

    Errors have OAuth's own form. A refresh token is good for one use, and its answer may be
    asked for again for a short while.
    """
    response.headers.update(NO_STORE)
    match required(form, "grant_type"):
        case "password":
            return await grants.password(
                client,
                username=required_text(form, "username"),
                password=required_text(form, "password"),
                scope=form.get("scope"),
            )
        case "refresh_token":
            return await grants.refresh(client, refresh_token=required(form, "refresh_token"), scope=form.get("scope"))
    raise UnsupportedGrantType(f"expected one of {', '.join(GRANT_TYPES)}")


@router.api_route("/token", methods=_OTHER_METHODS, include_in_schema=False)
async def refuse_method() -> None:
    """Say in OAuth's form that tokens are asked for with POST."""
    raise MethodNotAllowed("the token endpoint takes POST only")
