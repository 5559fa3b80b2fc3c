"""Who may call: the answers to every kind of bearer token."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request
from servicekit.app import build_app
from servicekit.auth import Principal, require_scope
from servicekit.health import Readiness
from servicekit.jwks import KEYS_NEED, open_jwks
from servicekit.metrics import new_registry
from servicekit.settings import ResourceSettings
from servicekit.telemetry import Telemetry
from servicekit.tokens import SigningKey, TokenVerifier

from tests.asgi import running
from tests.issuer import AUDIENCE, ISSUER, Issuer


class Settings(ResourceSettings):
    """A service that has one guarded path."""

    service = "sample"


def sample_app(auth_url: str) -> FastAPI:
    router = APIRouter()
    readiness = Readiness(KEYS_NEED)

    @router.post("/guarded")
    async def guarded(request: Request, caller: Annotated[Principal, require_scope("profile")]) -> str:
        return caller.subject

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
        async with (
            httpx.AsyncClient() as http,
            open_jwks(f"{auth_url}/.well-known/jwks.json", http, readiness, refresh_seconds=60) as keys,
        ):
            yield {"verifier": TokenVerifier(keys, issuer=ISSUER, audience=AUDIENCE)}

    registry = new_registry()
    return build_app(
        Settings(),
        title="Sample",
        description="",
        version="1",
        lifespan=lifespan,
        routers=[router],
        readiness=readiness,
        registry=registry,
        telemetry=Telemetry(Settings(), version="1", registry=registry),
    )


@pytest.fixture
async def client(issuer: Issuer) -> AsyncIterator[httpx.AsyncClient]:
    async with running(sample_app(issuer.url)) as client:
        yield client


async def test_a_caller_with_the_scope_is_let_in(client: httpx.AsyncClient, issuer: Issuer) -> None:
    response = await client.post("/guarded", headers=issuer.bearer(subject="ada", scope="profile users:read"))
    assert (response.status_code, response.json()) == (200, "ada")


async def test_no_token_is_401_with_a_bare_challenge(client: httpx.AsyncClient) -> None:
    response = await client.post("/guarded")
    assert response.status_code == 401
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("authorization", ["Basic YTpi", "Bearer", "Bearer x", "Bearer a.b.c", "bearer ..", "Bearer é"])
async def test_what_is_not_a_token_is_401(client: httpx.AsyncClient, authorization: str) -> None:
    response = await client.post("/guarded", headers={b"Authorization": authorization.encode()})
    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith("Bearer")


async def test_an_expired_token_is_401(client: httpx.AsyncClient, issuer: Issuer) -> None:
    response = await client.post("/guarded", headers=issuer.bearer(scope="profile", exp=1))
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == 'Bearer error="invalid_token"'
    assert "expired" in response.json()["detail"]


async def test_a_token_of_another_key_is_401(client: httpx.AsyncClient, issuer: Issuer) -> None:
    stranger = Issuer(issuer.url, SigningKey.generate("RS256"))
    response = await client.post("/guarded", headers=stranger.bearer(scope="profile"))
    assert response.status_code == 401


async def test_a_missing_scope_is_403_and_named(client: httpx.AsyncClient, issuer: Issuer) -> None:
    response = await client.post("/guarded", headers=issuer.bearer(scope="inference:predict"))
    assert response.status_code == 403
    assert response.headers["www-authenticate"] == 'Bearer error="insufficient_scope", scope="profile"'
    assert response.headers["content-type"] == "application/problem+json"


async def test_a_service_without_keys_is_not_ready() -> None:
    async with running(sample_app("http://127.0.0.1:9")) as client:
        assert (await client.get("/livez")).status_code == 200
        response = await client.get("/readyz")
    assert response.status_code == 503
    assert "keys" in response.json()["detail"]


async def test_before_the_keys_could_be_fetched_a_good_token_is_503(issuer: Issuer) -> None:
    async with running(sample_app("http://127.0.0.1:9")) as client:
        response = await client.post("/guarded", headers=issuer.bearer(scope="profile"))
        assert response.status_code == 503
        assert response.headers["content-type"] == "application/problem+json"
        assert int(response.headers["retry-after"]) > 0
        assert (await client.post("/guarded", headers={"Authorization": "Bearer x"})).status_code == 401
