"""What the routes are given."""

from typing import Annotated, TypedDict

from fastapi import Depends, Request
from servicekit.tokens import TokenVerifier

from auth_service.clients import Client, identify_client
from auth_service.forms import Form, read_form
from auth_service.grants import Grants
from auth_service.settings import AuthSettings
from auth_service.signing_keys import KeyRing


class State(TypedDict):
    """What the lifespan holds open."""

    settings: AuthSettings
    keys: KeyRing
    verifier: TokenVerifier
    grants: Grants


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


FormDep = Annotated[Form, Depends(read_form)]


async def get_client(request: Request, form: FormDep) -> Client:
    """Return the OAuth client that sent the form."""
    return identify_client(form, request.headers.get("authorization"))


SettingsDep = Annotated[AuthSettings, Depends(get_settings)]
KeyRingDep = Annotated[KeyRing, Depends(get_key_ring)]
GrantsDep = Annotated[Grants, Depends(get_grants)]
ClientDep = Annotated[Client, Depends(get_client)]
