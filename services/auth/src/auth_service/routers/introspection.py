"""The introspection endpoint (RFC 7662)."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response, Security
from servicekit.auth import bearer
from servicekit.token_form import InvalidToken
from servicekit.tokens import Claims, TokenVerifier

from auth_service.client_authentication import read_credentials
from auth_service.clients import PUBLIC
from auth_service.dependencies import (
    ClientAuthenticatorDep,
    FormDep,
    ProofDep,
    SessionsDep,
    VerificationsDep,
    VerifierDep,
)
from auth_service.errors import (
    NO_STORE,
    FormTooLarge,
    FormTooSlow,
    InsufficientScope,
    InvalidBearer,
    InvalidClient,
    InvalidRequest,
    TemporarilyUnavailable,
    TooManyRequests,
    oauth_error_responses,
)
from auth_service.forms import required
from auth_service.post_only import refuse_other_methods
from auth_service.schemas import INTROSPECTION_FORM, Introspection
from auth_service.sessions import Sessions

router = APIRouter(tags=["tokens"])

SCOPE = "users:read"
"""Whoever may read every account may know whose a token is."""


@dataclass(frozen=True, slots=True)
class Introspector:
    """Who asks. Of a client without the scope it is only about the tokens that it was given itself."""

    only_client_id: str | None = None

    def may_know(self, introspection: Introspection) -> bool:
        """Tell whether a token is one that it may ask about."""
        return self.only_client_id in {None, introspection.client_id}


async def has_bearer_token(
    token: Annotated[str | None, Security(bearer, scopes=[SCOPE])],
    proof: ProofDep,
    verifier: VerifierDep,
    verifications: VerificationsDep,
) -> bool:
    """Tell whether a bearer token with the scope was sent, before the body is read.

    Raises:
        InvalidBearer: the token is not valid.
        InsufficientScope: it lacks the scope.
    """
    if token is None:
        return False
    try:
        with verifications.counted():
            claims = await verifier.verify(token)
    except InvalidToken:
        raise InvalidBearer("the bearer token is not valid", is_sent=True) from None
    proof.is_given = True
    if SCOPE not in claims.scopes:
        raise InsufficientScope(f"missing scope: {SCOPE}")
    return True


async def authenticate_introspector(
    request: Request,
    proof: ProofDep,
    is_bearer: Annotated[bool, Depends(has_bearer_token)],
    form: FormDep,
    clients: ClientAuthenticatorDep,
) -> Introspector:
    """Return who asks: the owner of a bearer token, or a client that proves who it is.

    Raises:
        InvalidBearer: there is neither.
        InvalidRequest: a client says in two ways who it is.
        InvalidClient: it did not prove who it is.
    """
    if is_bearer:
        return Introspector()
    credentials = read_credentials(form, request.headers.get("authorization"))
    if credentials.method == PUBLIC:
        raise InvalidBearer("a bearer token is required, or a client that authenticates", is_sent=False)
    client = await clients.authenticate(credentials)
    proof.is_given = True
    return Introspector(None if SCOPE in client.scopes else client.id)


IntrospectorDep = Annotated[Introspector, Depends(authenticate_introspector)]


@router.post(
    "/oauth2/introspect",
    response_model_exclude_none=True,
    responses=oauth_error_responses(
        InvalidRequest,
        InvalidBearer,
        InvalidClient,
        InsufficientScope,
        FormTooLarge,
        FormTooSlow,
        TooManyRequests,
        TemporarilyUnavailable,
    ),
    openapi_extra=INTROSPECTION_FORM,
)
async def introspect(
    introspector: IntrospectorDep, form: FormDep, sessions: SessionsDep, verifier: VerifierDep, response: Response
) -> Introspection:
    """Tell whether a token is good now, and whose it is. Of a token that is not, nothing is told.

    A client that authenticates may ask, too: about every token where its scopes have `users:read`,
    else about its own. Services of Pinhole do not ask this: they verify tokens themselves.
    """
    response.headers.update(NO_STORE)
    token = required(form, "token")
    introspection = await _describe(token, sessions, verifier)
    if introspection is None or not introspector.may_know(introspection):
        return Introspection(active=False)
    return introspection


async def _describe(token: str, sessions: Sessions, verifier: TokenVerifier) -> Introspection | None:
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
    row = await sessions.find_unused(token)
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


async def _verify(token: str, verifier: TokenVerifier) -> Claims | None:
    try:
        return await verifier.verify(token)
    except InvalidToken:
        return None


refuse_other_methods(router, "/oauth2/introspect")
