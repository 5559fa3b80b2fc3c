"""The sessions that people see of theirs, and end."""

from datetime import timedelta
from typing import Any

import httpx
import pytest
from auth_service.sessions import DEVICE_LENGTH, MAX_LISTED
from auth_service.settings import AuthSettings
from servicekit.database import new_id, open_database

from tests.unit.auth.fake_users import ADA
from tests.unit.auth.requests import bearer, let_pass, refresh, sign_in
from tests.unit.auth.test_sessions import sessions_in


async def listed(client: httpx.AsyncClient, tokens: dict[str, Any]) -> list[dict[str, Any]]:
    response = await client.get("/sessions", headers=bearer(tokens))
    assert response.status_code == 200, response.text
    assert response.headers["cache-control"] == "no-store"
    sessions: list[dict[str, Any]] = response.json()["sessions"]
    return sessions


async def test_the_list_has_ones_own_sessions_with_the_last_used_first(client: httpx.AsyncClient) -> None:
    phone, laptop = (await sign_in(client)).json(), (await sign_in(client)).json()
    await sign_in(client, "root")
    assert [session["is_current"] for session in await listed(client, laptop)] == [True, False]
    await refresh(client, phone["refresh_token"])
    first, second = await listed(client, laptop)
    assert (first["is_current"], second["is_current"]) == (False, True)
    assert first["last_used_at"] > first["created_at"]
    assert first["client_id"] == "pinhole-web"
    assert first.keys() == {
        *("id", "client_id", "device", "created_at", "last_used_at", "expires_at", "is_current"),
    }


@pytest.mark.parametrize(("sent", "kept"), [("Firefox é", "Firefox é"), ("x" * 999, "x" * DEVICE_LENGTH)])
async def test_a_session_remembers_the_device(client: httpx.AsyncClient, sent: str, kept: str) -> None:
    client.headers.update([(b"User-Agent", sent.encode("latin-1"))])
    (session,) = await listed(client, (await sign_in(client)).json())
    assert session["device"] == kept


async def test_a_device_may_keep_silent(client: httpx.AsyncClient) -> None:
    del client.headers["User-Agent"]
    (session,) = await listed(client, (await sign_in(client)).json())
    assert session["device"] is None


async def test_sessions_that_are_over_are_not_listed(client: httpx.AsyncClient, settings: AuthSettings) -> None:
    await sign_in(client)
    await let_pass(settings, timedelta(seconds=settings.refresh_idle_seconds), of="sessions")
    assert len(await listed(client, (await sign_in(client)).json())) == 1


async def test_a_long_list_is_cut(client: httpx.AsyncClient, settings: AuthSettings) -> None:
    async with open_database(settings.database_url) as database:
        for _ in range(MAX_LISTED):
            await sessions_in(database).start(subject=ADA, client_id="one", scopes=frozenset({"profile"}))
    sessions = await listed(client, (await sign_in(client)).json())
    assert len(sessions) == MAX_LISTED
    assert sessions[0]["is_current"]


async def test_one_session_is_ended_and_no_other(client: httpx.AsyncClient) -> None:
    phone, laptop = (await sign_in(client)).json(), (await sign_in(client)).json()
    (lost,) = [session["id"] for session in await listed(client, laptop) if not session["is_current"]]
    response = await client.delete(f"/sessions/{lost}", headers=bearer(laptop))
    assert (response.status_code, response.content) == (204, b"")
    assert (await refresh(client, phone["refresh_token"])).status_code == 400
    assert (await client.get("/sessions", headers=bearer(phone))).status_code == 401
    assert len(await listed(client, laptop)) == 1
    assert (await client.delete(f"/sessions/{lost}", headers=bearer(laptop))).status_code == 404


async def test_somebody_elses_session_answers_as_one_that_does_not_exist(client: httpx.AsyncClient) -> None:
    ada, root = (await sign_in(client)).json(), (await sign_in(client, "root")).json()
    (session,) = await listed(client, ada)
    for session_id in (session["id"], new_id()):
        response = await client.delete(f"/sessions/{session_id}", headers=bearer(root))
        assert response.status_code == 404
        assert response.headers["content-type"] == "application/problem+json"
    assert len(await listed(client, ada)) == 1


async def test_all_sessions_are_ended_at_once(client: httpx.AsyncClient) -> None:
    ada, elsewhere, root = [(await sign_in(client, name)).json() for name in ("ada", "ada", "root")]
    response = await client.delete("/sessions", headers=bearer(ada))
    assert (response.status_code, response.content) == (204, b"")
    for tokens in (ada, elsewhere):
        assert (await refresh(client, tokens["refresh_token"])).status_code == 400
        assert (await client.get("/sessions", headers=bearer(tokens))).status_code == 401
    assert len(await listed(client, root)) == 1


REQUESTS = [("GET", "/sessions"), ("DELETE", "/sessions"), ("DELETE", "/sessions/01920000-0000-7000-8000-000000000000")]


@pytest.mark.parametrize(("method", "path"), REQUESTS)
async def test_without_a_token_it_is_401(client: httpx.AsyncClient, method: str, path: str) -> None:
    response = await client.request(method, path)
    assert response.status_code == 401
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(("method", "path"), REQUESTS)
async def test_without_the_scope_it_is_403(client: httpx.AsyncClient, method: str, path: str) -> None:
    tokens = (await sign_in(client, scope="inference:predict")).json()
    assert (await client.request(method, path, headers=bearer(tokens))).status_code == 403


async def test_what_is_no_id_is_422(client: httpx.AsyncClient) -> None:
    response = await client.delete("/sessions/x", headers=bearer((await sign_in(client)).json()))
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
