"""What the routes are given."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, TypedDict

from fastapi import Depends, Request
from servicekit.addresses import AddressDep
from servicekit.auth import Verifications
from servicekit.rate_limits import RateLimit
from servicekit.state import of_state
from servicekit.tokens import TokenVerifier

from auth_service.client_authentication import ClientAuthenticator, read_credentials
from auth_service.client_registry import ClientRegistry
from auth_service.clients import Client
from auth_service.errors import TooManyRequests
from auth_service.forms import Form, read_form
from auth_service.grants import Grants
from auth_service.metrics import AuthMetrics, CountedRequest
from auth_service.revocations import Revocations
from auth_service.sessions import Sessions
from auth_service.settings import AuthSettings
from auth_service.signing_keys import KeyRing


class State(TypedDict):
    """What the lifespan holds open."""

    settings: AuthSettings
    token_limit: RateLimit
    keys: KeyRing
    verifier: TokenVerifier
    verifications: Verifications
    metrics: AuthMetrics
    clients: ClientAuthenticator
    client_registry: ClientRegistry
    grants: Grants
    sessions: Sessions
    revocations: Revocations


def _refuse_for(wait_seconds: int) -> None:
    if wait_seconds:
        raise TooManyRequests("too many requests from this address", retry_after_seconds=wait_seconds)


async def limit_token_requests(request: Request, address: AddressDep) -> None:
    """Refuse a caller who asks for tokens too often, before the body is read.

    Raises:
        TooManyRequests: the limit of the settings is reached.
    """
    limit: RateLimit = request.state.token_limit
    _refuse_for(await limit.hit(address))


@dataclass(slots=True)
class Proof:
    """Whether a request has shown whose it is."""

    is_given: bool = False


async def limit_unproven_calls(request: Request, address: AddressDep) -> AsyncIterator[Proof]:
    """Count a request against its address, as one for a token is, unless its sender proves who it is.

    Raises:
        TooManyRequests: the limit of the settings is reached.
    """
    limit: RateLimit = request.state.token_limit
    _refuse_for(await limit.peek(address))
    proof = Proof()
    try:
        yield proof
    finally:
        if not proof.is_given:
            await limit.hit(address)


FormDep = Annotated[Form, Depends(read_form)]


async def count_token_request(request: Request) -> AsyncIterator[CountedRequest]:
    """Count a request for tokens by what comes of it, whichever dependency or route ends it."""
    metrics: AuthMetrics = request.state.metrics
    with metrics.token_request() as counted:
        yield counted


async def note_grant_type(
    form: FormDep, counted: Annotated[CountedRequest, Depends(count_token_request, scope="function")]
) -> None:
    """Let the request be counted under the grant that it asks for."""
    counted.asks_for(form.get("grant_type"))


ClientAuthenticatorDep = Annotated[ClientAuthenticator, Depends(of_state("clients"))]


async def get_client(request: Request, form: FormDep, clients: ClientAuthenticatorDep) -> Client:
    """Return the OAuth client that sent the form.

    Raises:
        InvalidRequest: it says in two ways who it is.
        InvalidClient: it is unknown, or failed to prove who it is.
    """
    return await clients.authenticate(read_credentials(form, request.headers.get("authorization")))


SettingsDep = Annotated[AuthSettings, Depends(of_state("settings"))]
KeyRingDep = Annotated[KeyRing, Depends(of_state("keys"))]
get_grants = of_state("grants")
GrantsDep = Annotated[Grants, Depends(get_grants)]
SessionsDep = Annotated[Sessions, Depends(of_state("sessions"))]
RevocationsDep = Annotated[Revocations, Depends(of_state("revocations"))]
VerifierDep = Annotated[TokenVerifier, Depends(of_state("verifier"))]
VerificationsDep = Annotated[Verifications, Depends(of_state("verifications"))]
ClientRegistryDep = Annotated[ClientRegistry, Depends(of_state("client_registry"))]
ProofDep = Annotated[Proof, Depends(limit_unproven_calls, scope="function")]
ClientDep = Annotated[Client, Depends(get_client)]
