"""The token endpoint (RFC 6749 section 3.2)."""

from fastapi import APIRouter, Request, Response

from auth_service.dependencies import ClientDep, FormDep, GrantsDep
from auth_service.errors import (
    NO_STORE,
    FormTooLarge,
    InvalidClient,
    InvalidGrant,
    InvalidRequest,
    InvalidScope,
    TemporarilyUnavailable,
    TooManyAttempts,
    UnsupportedGrantType,
    oauth_error_responses,
)
from auth_service.forms import required, required_text
from auth_service.post_only import refuse_other_methods
from auth_service.schemas import TOKEN_FORM, TokenResponse

router = APIRouter(tags=["tokens"])

GRANT_TYPES = ("password", "refresh_token")


@router.post(
    "/token",
    responses=oauth_error_responses(
        InvalidRequest,
        InvalidGrant,
        InvalidScope,
        UnsupportedGrantType,
        InvalidClient,
        FormTooLarge,
        TooManyAttempts,
        TemporarilyUnavailable,
    ),
    openapi_extra=TOKEN_FORM,
)
async def token(
    request: Request, form: FormDep, client: ClientDep, grants: GrantsDep, response: Response
) -> TokenResponse:
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
                device=request.headers.get("user-agent"),
                address=request.client.host if request.client else "",
            )
        case "refresh_token":
            return await grants.refresh(client, refresh_token=required(form, "refresh_token"), scope=form.get("scope"))
    raise UnsupportedGrantType(f"expected one of {', '.join(GRANT_TYPES)}")


refuse_other_methods(router, "/token")
