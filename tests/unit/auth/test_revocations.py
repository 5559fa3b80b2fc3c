"""Signing out: which token ends which session, and what is left of it."""

import httpx
import pytest
from auth_service.revocations import Revocations
from auth_service.settings import AuthSettings
from servicekit.database import new_id, open_database

from tests.unit.auth.fake_users import ADA
from tests.unit.auth.requests import assert_oauth_error, bearer, let_pass, refresh, revoke, sign_in
from tests.unit.auth.test_sessions import GRACE, sessions_in


@pytest.mark.parametrize("kind", ["refresh_token", "access_token"])
async def test_a_token_ends_its_session(client: httpx.AsyncClient, kind: str) -> None:
    tokens, other = (await sign_in(client)).json(), (await sign_in(client)).json()
    response = await revoke(client, tokens[kind], token_type_hint="whatever")
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["cache-control"] == "no-store"
    assert_oauth_error(await refresh(client, tokens["refresh_token"]), 400, "invalid_grant")
    assert (await client.get("/sessions", headers=bearer(tokens))).status_code == 401
    assert (await client.get("/sessions", headers=bearer(other))).status_code == 200
    assert (await refresh(client, other["refresh_token"])).status_code == 200


async def test_a_refresh_token_that_was_used_still_ends_its_session(client: httpx.AsyncClient) -> None:
    first = (await sign_in(client)).json()
    second = (await refresh(client, first["refresh_token"])).json()
    assert (await revoke(client, first["refresh_token"])).status_code == 200
    assert_oauth_error(await refresh(client, second["refresh_token"]), 400, "invalid_grant")


@pytest.mark.parametrize("token", ["x", "a.b.c", "é", "\x00", "x" * 9000])
async def test_what_is_no_token_gets_the_same_answer(client: httpx.AsyncClient, token: str) -> None:
    response = await revoke(client, token)
    assert (response.status_code, response.content) == (200, b"")


async def test_a_session_is_ended_once(client: httpx.AsyncClient) -> None:
    tokens = (await sign_in(client)).json()
    for token in (tokens["access_token"], tokens["refresh_token"], tokens["access_token"]):
        assert (await revoke(client, token)).status_code == 200


async def test_a_token_of_another_client_is_refused_and_goes_on(
    client: httpx.AsyncClient, settings: AuthSettings
) -> None:
    async with open_database(settings.database_url) as database:
        sessions = sessions_in(database)
        session, token = await sessions.start(subject=ADA, client_id="two", scopes=frozenset({"profile"}))
        assert_oauth_error(await revoke(client, token), 400, "invalid_grant")
        assert await sessions.find(token, client_id="two") == session


@pytest.mark.parametrize("form", [{}, {"token": ""}, {"token_type_hint": "refresh_token"}])
async def test_a_missing_token_is_an_invalid_request(client: httpx.AsyncClient, form: dict[str, str]) -> None:
    assert_oauth_error(await client.post("/oauth2/revoke", data=form), 400, "invalid_request")


async def test_a_stranger_is_401(client: httpx.AsyncClient) -> None:
    tokens = (await sign_in(client)).json()
    assert_oauth_error(await revoke(client, tokens["refresh_token"], client_id="stranger"), 401, "invalid_client")
    assert (await refresh(client, tokens["refresh_token"])).status_code == 200


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
async def test_another_method_is_refused_in_the_same_form(client: httpx.AsyncClient, method: str) -> None:
    assert_oauth_error(await client.request(method, "/oauth2/revoke"), 405, "invalid_request")


async def test_reuse_of_a_refresh_token_ends_the_access_tokens_too(
    client: httpx.AsyncClient, settings: AuthSettings
) -> None:
    first = (await sign_in(client)).json()
    second = (await refresh(client, first["refresh_token"])).json()
    await let_pass(settings, GRACE * 2)
    assert (await refresh(client, first["refresh_token"])).status_code == 400
    assert (await client.get("/sessions", headers=bearer(second))).status_code == 401


@pytest.mark.parametrize("session_id", [str(new_id()), "x", ""])
async def test_a_session_that_nobody_knows_counts_as_ended(
    client: httpx.AsyncClient, settings: AuthSettings, session_id: str
) -> None:
    async with open_database(settings.database_url) as database:
        assert await Revocations(database).is_revoked(session_id)
