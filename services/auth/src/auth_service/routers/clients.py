"""The clients that an administrator registers, and their secrets."""

from datetime import timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Query, Response
from servicekit.app import LimitedRoute
from servicekit.auth import Principal, require_scope
from servicekit.connections import DatabaseUnavailable
from servicekit.problem import BodyTooSlow, ContentTooLarge, Forbidden, Unauthorized, problem_responses

from auth_service.client_schemas import (
    ClientList,
    ClientPatch,
    ClientResponse,
    NewSecretResponse,
    RegisteredClient,
    SecretRotation,
)
from auth_service.clients import CLIENT_ID, NewClient
from auth_service.dependencies import ClientRegistryDep
from auth_service.errors import (
    NO_STORE,
    ClientConfigured,
    ClientExists,
    ClientNotFound,
    MalformedBody,
    NoSecrets,
    ScopeExceeded,
    SecretNotFound,
    TooManySecrets,
)
from auth_service.links import NEW_SECRET, REGISTERED_CLIENT

router = APIRouter(prefix="/clients", tags=["clients"], route_class=LimitedRoute)

Administrator = Annotated[Principal, require_scope("clients:admin")]
ClientIdPath = Annotated[str, Path(pattern=CLIENT_ID, description="The client's id.", examples=["nightly-report"])]

READ = (Unauthorized, Forbidden, ClientNotFound, DatabaseUnavailable)
CHANGE = (*READ, ScopeExceeded, ClientConfigured)
DEFAULT_ROTATION = SecretRotation()
BODY = (MalformedBody, BodyTooSlow, ContentTooLarge)


@router.get("", responses=problem_responses(Unauthorized, Forbidden, DatabaseUnavailable))
async def list_clients(
    caller: Administrator,
    registry: ClientRegistryDep,
    after: Annotated[str, Query(pattern=rf"^$|{CLIENT_ID}", description="The last id of the page before.")] = "",
    limit: Annotated[int, Query(ge=1, le=100)] = 100,
) -> ClientList:
    """Return clients in the order of their ids, those of the settings too."""
    rows = await registry.list_clients(after=after, limit=limit)
    return ClientList(clients=[ClientResponse.of(row) for row in rows])


@router.post(
    "",
    status_code=201,
    responses={
        201: {
            "headers": {"Location": {"description": "The path of the client.", "schema": {"type": "string"}}},
            "links": REGISTERED_CLIENT,
        },
        **problem_responses(*BODY, Unauthorized, Forbidden, ScopeExceeded, ClientExists, DatabaseUnavailable),
    },
)
async def register_client(
    body: NewClient, caller: Administrator, registry: ClientRegistryDep, response: Response
) -> RegisteredClient:
    """Register a client. One that proves itself by a secret gets one here, and never again.

    It can have no scope that the caller lacks.
    """
    row, secret = await registry.register(body, scopes=caller.scopes)
    response.headers.update(NO_STORE)
    response.headers["Location"] = f"/clients/{row.id}"
    return RegisteredClient(**ClientResponse.of(row).model_dump(), secret=secret)


@router.get("/{client_id}", responses=problem_responses(*READ))
async def read_client(client_id: ClientIdPath, caller: Administrator, registry: ClientRegistryDep) -> ClientResponse:
    """Return a client."""
    return ClientResponse.of(await registry.get(client_id))


@router.patch("/{client_id}", responses=problem_responses(*BODY, *CHANGE, ClientExists))
async def change_client(
    client_id: ClientIdPath, body: ClientPatch, caller: Administrator, registry: ClientRegistryDep
) -> ClientResponse:
    """Change fields of a client. Where it may do less than before, its sessions and those of its users end."""
    return ClientResponse.of(
        await registry.change(client_id, body.model_dump(exclude_unset=True), scopes=caller.scopes)
    )


@router.delete("/{client_id}", status_code=204, response_class=Response, responses=problem_responses(*CHANGE))
async def delete_client(client_id: ClientIdPath, caller: Administrator, registry: ClientRegistryDep) -> None:
    """Forget a client. Its tokens, and those of its users, are refused everywhere within two seconds."""
    await registry.delete(client_id, scopes=caller.scopes)


@router.post(
    "/{client_id}/secrets",
    status_code=201,
    responses={201: {"links": NEW_SECRET}, **problem_responses(*BODY, *CHANGE, NoSecrets, TooManySecrets)},
)
async def rotate_secret(
    client_id: ClientIdPath,
    caller: Administrator,
    registry: ClientRegistryDep,
    response: Response,
    body: SecretRotation = DEFAULT_ROTATION,
) -> NewSecretResponse:
    """Give a client another secret. The present one goes on to work for a while, a day if nothing is said."""
    row, secret = await registry.rotate_secret(
        client_id, old_lasts=timedelta(seconds=body.old_expires_in_seconds), scopes=caller.scopes
    )
    response.headers.update(NO_STORE)
    return NewSecretResponse.of(row, secret)


@router.delete(
    "/{client_id}/secrets/{secret_id}",
    status_code=204,
    response_class=Response,
    responses=problem_responses(*CHANGE, SecretNotFound),
)
async def end_secret(
    client_id: ClientIdPath, secret_id: UUID, caller: Administrator, registry: ClientRegistryDep
) -> None:
    """End a secret. The tokens that it gave are refused everywhere within two seconds."""
    await registry.end_secret(client_id, secret_id, scopes=caller.scopes)
