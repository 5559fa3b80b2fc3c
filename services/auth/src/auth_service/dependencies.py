"""What the routes are given."""

from typing import Annotated, TypedDict

from fastapi import Depends, Request
from servicekit.auth import get_verifier
from servicekit.tokens import TokenVerifier

from auth_service.clients import Client, identify_client
from auth_service.forms import Form, read_form
from auth_service.grants import Grants
from auth_service.revocations import Revocations
from auth_service.sessions import Sessions
from auth_service.settings import AuthSettings
from auth_service.signing_keys import KeyRing


class State(TypedDict):
    """What the lifespan holds open."""

    settings: AuthSettings
    keys: KeyRing
    verifier: TokenVerifier
    grants: Grants
    sessions: Sessions
    revocations: Revocations


async def get_settings(request: Request) -> AuthSettings:
    """Return the settings of this process."""
    settings: AuthSettings = request.state.settings
    return settings


async def get_key_ring(request: Request) -> KeyRing:
    """Return the signing keys."""
    keys: KeyRing = request.state.keys
    return keys


async def get_grants(request: Request) -> Grants:
    """Return the grants."""
    grants: Grants = request.state.grants
    return grants


async def get_sessions(request: Request) -> Sessions:
    """Return the sessions."""
    sessions: Sessions = request.state.sessions
    return sessions


async def get_revocations(request: Request) -> Revocations:
    """Return who ends sessions."""
    revocations: Revocations = request.state.revocations
    return revocations


FormDep = Annotated[Form, Depends(read_form)]


async def get_client(request: Request, form: FormDep) -> Client:
    """Return the OAuth client that sent the form."""
    return identify_client(form, request.headers.get("authorization"))


SettingsDep = Annotated[AuthSettings, Depends(get_settings)]
KeyRingDep = Annotated[KeyRing, Depends(get_key_ring)]
GrantsDep = Annotated[Grants, Depends(get_grants)]
SessionsDep = Annotated[Sessions, Depends(get_sessions)]
RevocationsDep = Annotated[Revocations, Depends(get_revocations)]
VerifierDep = Annotated[TokenVerifier, Depends(get_verifier)]
ClientDep = Annotated[Client, Depends(get_client)]
