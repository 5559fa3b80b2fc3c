"""The introspection endpoint (RFC 7662)."""

from typing import Annotated

from fastapi import APIRouter, Depends, Response, Security
from servicekit.auth import bearer
from servicekit.connections import DatabaseUnavailable
from servicekit.tokens import Claims, InvalidToken, TokenVerifier

from auth_service.dependencies import FormDep, SessionsDep, VerifierDep
from auth_service.errors import (
    NO_STORE,
    FormTooLarge,
    InsufficientScope,
    InvalidBearer,
    InvalidRequest,
    TemporarilyUnavailable,
    oauth_error_responses,
)
from auth_service.forms import required
from auth_service.post_only import refuse_other_methods
from auth_service.schemas import INTROSPECTION_FORM, Introspection

router = APIRouter(tags=["tokens"])

SCOPE = "users:read"
"""Whoever may read every account may know whose a token is."""


async def require_introspector(
    token: Annotated[str | None, Security(bearer, scopes=[SCOPE])], verifier: VerifierDep
) -> None:
    """Refuse a caller without the scope, in OAuth's form and before the body is read."""
    claims = await _verify(token, verifier) if token is not None else None
    if claims is None:
        raise InvalidBearer("a valid bearer token is required")
    if SCOPE not in claims.scopes:
        raise InsufficientScope(f"missing scope: {SCOPE}")


@router.post(
    "/oauth2/introspect",
    dependencies=[Depends(require_introspector)],
    response_model_exclude_none=True,
    responses=oauth_error_responses(
        InvalidRequest, InvalidBearer, InsufficientScope, FormTooLarge, TemporarilyUnavailable
    ),
    openapi_extra=INTROSPECTION_FORM,
)
async def introspect(form: FormDep, sessions: SessionsDep, verifier: VerifierDep, response: Response) -> Introspection:
    """Tell whether a token is good now, and whose it is. Of a token that is not, nothing is told.

    Services of Pinhole do not ask this: they verify tokens themselves.
    """
    response.headers.update(NO_STORE)
    token = required(form, "token")
    if (claims := await _verify(token, verifier)) is not None:
        return Introspection(
            active=True,
            token_type="Bearer",  # noqa: S106 - the name of a scheme
            scope=" ".join(sorted(claims.scopes)),
            client_id=claims.client_id,
            sub=claims.subject,
            iat=claims.issued_at,
            exp=claims.expires_at,
            jti=claims.token_id,
            sid=claims.session_id,
        )
    if (row := await _find(token, sessions)) is not None:
        return row
    return Introspection(active=False)


async def _verify(token: str, verifier: TokenVerifier) -> Claims | None:
    try:
        return await verifier.verify(token)
    except InvalidToken:
        return None
    except DatabaseUnavailable:
        raise TemporarilyUnavailable("the database does not answer in time") from None


async def _find(token: str, sessions: SessionsDep) -> Introspection | None:
    try:
        row = await sessions.find_unused(token)
    except DatabaseUnavailable:
        raise TemporarilyUnavailable("the database does not answer in time") from None
    if row is None:
        return None
    return Introspection(
        active=True,
        scope=row.scope,
        client_id=row.client_id,
        sub=row.subject,
        iat=int(row.last_used_at.timestamp()),
        exp=int(row.expires_at.timestamp()),
        sid=str(row.id),
    )


refuse_other_methods(router, "/oauth2/introspect")
