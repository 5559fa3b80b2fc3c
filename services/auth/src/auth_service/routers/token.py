"""The token endpoint (RFC 6749 section 3.2)."""

from fastapi import APIRouter, Depends, Request, Response
from servicekit.addresses import AddressDep

from auth_service.clients import GRANT_TYPES
from auth_service.dependencies import (
    ClientDep,
    FormDep,
    GrantsDep,
    SettingsDep,
    count_token_request,
    limit_token_requests,
    note_grant_type,
)
from auth_service.errors import (
    NO_STORE,
    FormTooLarge,
    FormTooSlow,
    InvalidClient,
    InvalidGrant,
    InvalidRequest,
    InvalidScope,
    TemporarilyUnavailable,
    TooManyRequests,
    UnauthorizedClient,
    UnsupportedGrantType,
    oauth_error_responses,
)
from auth_service.forms import required, required_text
from auth_service.links import TOKENS
from auth_service.post_only import refuse_other_methods
from auth_service.schemas import TOKEN_FORM, TokenResponse
from auth_service.settings import AuthSettings

router = APIRouter(tags=["tokens"])


def supported_grant_types(settings: AuthSettings) -> list[str]:
    """Return the grants that there are here."""
    return [grant_type for grant_type in GRANT_TYPES if grant_type != "password" or settings.password_grant]


@router.post(
    "/token",
    dependencies=[
        Depends(count_token_request, scope="function"),
        Depends(limit_token_requests),
        Depends(note_grant_type),
    ],
    responses={
        200: {"links": TOKENS},
        **oauth_error_responses(
            InvalidRequest,
            InvalidGrant,
            InvalidScope,
            UnauthorizedClient,
            UnsupportedGrantType,
            InvalidClient,
            FormTooLarge,
            FormTooSlow,
            TooManyRequests,
            TemporarilyUnavailable,
        ),
    },
    response_model_exclude_none=True,
    openapi_extra=TOKEN_FORM,
)
async def token(
    request: Request,
    address: AddressDep,
    form: FormDep,
    client: ClientDep,
    grants: GrantsDep,
    settings: SettingsDep,
    response: Response,
) -> TokenResponse:
    """Sign in with a password, get the next tokens for a refresh token, or a token for a client itself.

    Errors have OAuth's own form. The client is looked at before anything else. A refresh token is
    good for one use, and its answer may be asked for again for a short while.
    """
    response.headers.update(NO_STORE)
    grant_type = required(form, "grant_type")
    if grant_type not in (supported := supported_grant_types(settings)):
        raise UnsupportedGrantType(f"expected one of {', '.join(supported)}")
    if grant_type not in client.grant_types:
        raise UnauthorizedClient("the client may not use this grant")
    match grant_type:
        case "password":
            return await grants.password(
                client,
                username=required_text(form, "username"),
                password=required_text(form, "password"),
                scope=form.get("scope"),
                device=request.headers.get("user-agent"),
                address=address,
            )
        case "refresh_token":
            return await grants.refresh(client, refresh_token=required(form, "refresh_token"), scope=form.get("scope"))
        case _:
            return await grants.client_credentials(client, scope=form.get("scope"))


refuse_other_methods(router, "/token")
