"""Who may call: the answers to every kind of bearer token."""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any, get_args

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request
from servicekit.app import build_app
from servicekit.auth import Principal, Verification, Verifications, require_scope
from servicekit.health import Readiness
from servicekit.jwks import KEYS_NEED, open_jwks
from servicekit.metrics import new_registry
from servicekit.settings import ResourceSettings
from servicekit.telemetry import Telemetry
from servicekit.tokens import SigningKey, TokenVerifier

from tests.asgi import running
from tests.exposition import exposed
from tests.issuer import AUDIENCE, ISSUER, Issuer


class Settings(ResourceSettings):
    """A service that has one guarded path."""

    service = "sample"


class OneHasEnded:
    """Knows of one session that has ended."""

    async def is_revoked(self, session_id: str) -> bool:
        return session_id == "ended"


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
            open_jwks(
                f"{auth_url}/.well-known/jwks.json", http, readiness, refresh_seconds=60, registry=registry
            ) as keys,
        ):
            yield {
                "verifier": TokenVerifier(keys, issuer=ISSUER, audience=AUDIENCE, revocations=OneHasEnded()),
                "verifications": Verifications(registry),
            }

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


async def test_the_tokens_of_requests_are_counted_by_what_is_found(client: httpx.AsyncClient, issuer: Issuer) -> None:
    for headers in (
        issuer.bearer(scope="profile"),
        issuer.bearer(scope=""),  # it is good, whatever it is good for
        issuer.bearer(scope="profile", exp=1),
        issuer.bearer(scope="profile", sid="ended"),
        {"Authorization": "Bearer x"},
        {},
    ):
        await client.post("/guarded", headers=headers)
    metrics = await exposed(client)
    found = {outcome: metrics.value("token_verifications_total", outcome=outcome) for outcome in get_args(Verification)}
    assert found == {"ok": 2, "expired": 1, "revoked": 1, "invalid": 1, "unavailable": 0, "error": 0}


async def test_a_token_that_cannot_be_judged_is_counted_as_such(issuer: Issuer) -> None:
    async with running(sample_app("http://127.0.0.1:9")) as client:
        await client.post("/guarded", headers=issuer.bearer(scope="profile"))
        metrics = await exposed(client)
    assert metrics.value("token_verifications_total", outcome="unavailable") == 1
    assert metrics.value("jwks_fetches_total", outcome="failed") >= 1
    assert metrics.value("jwks_fetched_timestamp_seconds") == 0


async def test_the_time_of_the_keys_is_shown(client: httpx.AsyncClient, issuer: Issuer) -> None:
    assert (await client.post("/guarded", headers=issuer.bearer(scope="profile"))).status_code == 200
    metrics = await exposed(client)
    assert metrics.value("jwks_fetches_total", outcome="ok") >= 1
    assert time.time() - 60 < metrics.value("jwks_fetched_timestamp_seconds") <= time.time()
