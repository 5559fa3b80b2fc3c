"""What a token is, for those who may know."""

from typing import Any

import httpx
import pytest
from auth_service.settings import AuthSettings

from tests.unit.auth.fake_users import ADA
from tests.unit.auth.requests import assert_oauth_error, bearer, refresh, revoke, sign_in, verified


async def introspect(client: httpx.AsyncClient, token: str) -> dict[str, Any]:
    root = (await sign_in(client, "root")).json()
    response = await client.post("/oauth2/introspect", data={"token": token}, headers=bearer(root))
    assert response.status_code == 200, response.text
    assert response.headers["cache-control"] == "no-store"
    document: dict[str, Any] = response.json()
    return document


async def test_an_access_token_is_described_as_it_is(client: httpx.AsyncClient) -> None:
    tokens = (await sign_in(client)).json()
    claims = await verified(client, tokens["access_token"])
    assert await introspect(client, tokens["access_token"]) == {
        "active": True,
        "token_type": "Bearer",
        "scope": tokens["scope"],
        "client_id": "pinhole-web",
        "sub": ADA,
        "iat": claims.issued_at,
        "exp": claims.expires_at,
        "jti": claims.token_id,
        "sid": claims.session_id,
    }


async def test_a_refresh_token_is_good_until_it_is_used(client: httpx.AsyncClient, settings: AuthSettings) -> None:
    tokens = (await sign_in(client)).json()
    document = await introspect(client, tokens["refresh_token"])
    assert (document["active"], document["sub"]) == (True, ADA)
    assert document["exp"] - document["iat"] == settings.refresh_idle_seconds
    assert "token_type" not in document
    await refresh(client, tokens["refresh_token"])
    assert await introspect(client, tokens["refresh_token"]) == {"active": False}


@pytest.mark.parametrize("token", ["x", "a.b.c", "é", "x" * 9000])
async def test_of_what_is_no_token_nothing_is_told(client: httpx.AsyncClient, token: str) -> None:
    assert await introspect(client, token) == {"active": False}


async def test_of_an_ended_session_nothing_is_told(client: httpx.AsyncClient) -> None:
    tokens = (await sign_in(client)).json()
    await revoke(client, tokens["access_token"])
    for kind in ("access_token", "refresh_token"):
        assert await introspect(client, tokens[kind]) == {"active": False}


@pytest.mark.parametrize("authorization", [None, "Bearer x", "Basic cGluaG9sZS13ZWI6"])
async def test_without_a_token_of_ones_own_it_is_401(client: httpx.AsyncClient, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    response = await client.post("/oauth2/introspect", data={"token": "x"}, headers=headers)
    assert (response.status_code, response.json()["error"]) == (401, "invalid_token")
    challenge = 'Bearer error="invalid_token"' if authorization == "Bearer x" else "Bearer"
    assert response.headers["www-authenticate"] == challenge


async def test_without_the_scope_it_is_403(client: httpx.AsyncClient) -> None:
    tokens = (await sign_in(client)).json()
    response = await client.post("/oauth2/introspect", data={"token": tokens["access_token"]}, headers=bearer(tokens))
    assert_oauth_error(response, 403, "insufficient_scope")


async def test_a_missing_token_is_an_invalid_request(client: httpx.AsyncClient) -> None:
    root = (await sign_in(client, "root")).json()
    assert_oauth_error(await client.post("/oauth2/introspect", headers=bearer(root)), 400, "invalid_request")


async def test_another_method_is_refused_in_the_same_form(client: httpx.AsyncClient) -> None:
    assert_oauth_error(await client.get("/oauth2/introspect"), 405, "invalid_request")
