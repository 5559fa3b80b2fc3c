"""Signing out: which token ends which session, and what is left of it."""

import asyncio
from datetime import timedelta
from functools import partial
from uuid import UUID

import httpx
import pytest
from auth_service.main import create_app
from auth_service.revocations import MARGIN, OVERLAP, PAGE_SIZE, Revocations
from auth_service.settings import AuthSettings
from auth_service.tables import SessionRow
from servicekit.database import new_id, open_database, utc_now
from servicekit.revocations import RevocationPage
from sqlalchemy import insert, select, update

from tests.asgi import running
from tests.eventually import eventually
from tests.unit.auth.fake_users import ADA, FakeUsers
from tests.unit.auth.requests import (
    ask_as_client,
    assert_oauth_error,
    basic,
    bearer,
    clock_off,
    let_pass,
    refresh,
    register,
    revoke,
    sign_in,
    signed_in,
    somebody_waits,
    stored,
    verified,
)
from tests.unit.auth.test_account_events import catch_up
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


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_who_ends_several_sessions_locks_them_in_their_order(
    client: httpx.AsyncClient, settings: AuthSettings
) -> None:
    """SQLite lets one writer in at a time."""
    tokens = [(await sign_in(client)).json() for _ in range(3)]
    ids = [UUID((await verified(client, each["access_token"])).session_id) for each in tokens]
    async with open_database(settings.database_url) as database:
        async with database.begin() as first:  # in the table, the first stands last now
            await first.execute(
                update(SessionRow).where(SessionRow.id == ids[0]).values(expires_at=utc_now() + timedelta(days=1))
            )
        async with database.begin() as first:
            await first.get(SessionRow, ids[0], with_for_update=True)
            ending = asyncio.create_task(client.delete("/sessions", headers=bearer(tokens[0])))
            await eventually(partial(somebody_waits, settings))
            async with database.begin() as others:
                for session_id in ids[1:]:
                    assert await others.get(SessionRow, session_id, with_for_update={"nowait": True})
        assert (await ending).status_code == 204


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


@pytest.mark.parametrize("session_id", ["01920000-0000-7000-8000-000000000000", "x", ""])
async def test_a_session_that_nobody_knows_counts_as_ended(
    client: httpx.AsyncClient, settings: AuthSettings, session_id: str
) -> None:
    async with open_database(settings.database_url) as database:
        assert await Revocations(database, access_token_seconds=900).is_revoked(session_id)


# What the other services are told


async def told(client: httpx.AsyncClient, **params: str) -> RevocationPage:
    response = await client.get("/internal/revocations", params=params)
    assert response.status_code == 200, response.text
    return RevocationPage.model_validate_json(response.content)


async def test_the_services_are_told_of_an_ended_session_for_as_long_as_its_tokens_live(
    client: httpx.AsyncClient, settings: AuthSettings
) -> None:
    before = (await told(client)).next
    tokens = (await sign_in(client)).json()
    await sign_in(client)
    claims = await verified(client, tokens["access_token"])
    await revoke(client, tokens["refresh_token"])
    page = await told(client)
    (revocation,) = page.revocations
    assert revocation.sid == claims.session_id
    assert revocation.expires_at > claims.expires_at
    assert not page.has_more
    for cursor in (before, page.next):  # a little is told again: what was committed late must not be missed
        assert (await told(client, after=cursor)).revocations == page.revocations
    await end_earlier(settings, OVERLAP + timedelta(seconds=1))
    assert (await told(client, after=page.next)).revocations == []
    assert [earlier.sid for earlier in (await told(client)).revocations] == [claims.session_id]
    await end_earlier(settings, timedelta(seconds=settings.access_token_seconds) + MARGIN)
    assert (await told(client)).revocations == []


@pytest.mark.parametrize("how", ["signed out", "signed out everywhere", "reuse", "an event", "deleted"])
async def test_an_end_by_a_replica_whose_clock_is_behind_is_told(
    client: httpx.AsyncClient, settings: AuthSettings, users: FakeUsers, how: str
) -> None:
    tokens = (await sign_in(client)).json()
    if how == "reuse":
        await refresh(client, tokens["refresh_token"])
    known = (await told(client)).next
    with clock_off(-2 * OVERLAP):
        match how:
            case "signed out":
                await revoke(client, tokens["refresh_token"])
            case "signed out everywhere":
                await client.delete("/sessions", headers=bearer(tokens))
            case "reuse":
                await let_pass(settings, GRACE + timedelta(seconds=1))
                await refresh(client, tokens["refresh_token"])
            case "an event":
                users.tell("password.reset")
                await catch_up(settings)
            case "deleted":
                users.roles.pop(ADA)
                await refresh(client, tokens["refresh_token"])
    claims = await verified(client, tokens["access_token"])
    assert [revocation.sid for revocation in (await told(client, after=known)).revocations] == [claims.session_id]


@pytest.mark.parametrize("given", ["at the sign-in", "by a refresh", "by a retry", "to a client"])
async def test_a_shorter_life_of_tokens_ends_no_telling_of_those_that_live_longer(
    settings: AuthSettings, given: str
) -> None:
    short = settings.model_copy(update={"access_token_seconds": 60})
    longer = settings.model_copy(update={"access_token_seconds": 3600})
    async with running(create_app(short)) as client:
        secret = (await register(client))["secret"]
        refresh_token = await signed_in(client)
        if given == "by a retry":
            await refresh(client, refresh_token)
        await ask_as_client(client, f"nightly:{secret}")
    async with running(create_app(longer)) as client:
        match given:
            case "at the sign-in":
                answer = await sign_in(client)
            case "to a client":
                answer = await ask_as_client(client, f"nightly:{secret}")
            case _:
                answer = await refresh(client, refresh_token)
        token = answer.json()["access_token"]
        claims = await verified(client, token)
    async with running(create_app(short)) as client:
        headers = basic(f"nightly:{secret}") if given == "to a client" else {}
        assert (await client.post("/oauth2/revoke", data={"token": token}, headers=headers)).status_code == 200
        (revocation,) = (await told(client)).revocations
        assert revocation.sid == claims.session_id
        assert revocation.expires_at > claims.expires_at
        await end_earlier(settings, timedelta(seconds=3500))
        assert [earlier.sid for earlier in (await told(client)).revocations] == [claims.session_id]


async def end_earlier(settings: AuthSettings, time: timedelta) -> None:
    async with stored(settings) as transaction:
        for row in await transaction.scalars(select(SessionRow).where(SessionRow.ended_at.is_not(None))):
            assert row.ended_at is not None
            row.ended_at -= time


async def test_many_ends_are_told_page_by_page_each_once(client: httpx.AsyncClient, settings: AuthSettings) -> None:
    async with open_database(settings.database_url) as database:
        session, _ = await sessions_in(database).start(subject=ADA, client_id="one", scopes=frozenset({"profile"}))
        async with database.begin() as transaction:
            row = await transaction.get_one(SessionRow, session.id)
            columns = {column.key: getattr(row, column.key) for column in SessionRow.__table__.columns}
            rows = [columns | {"id": new_id()} for _ in range(PAGE_SIZE + 1)]
            await transaction.execute(insert(SessionRow), rows)
        await Revocations(database, access_token_seconds=900).end_all(ADA)  # on SQLite all with one time
    first = await told(client)
    second = await told(client, after=first.next)
    assert (first.has_more, second.has_more) == (True, False)
    assert len({revocation.sid for revocation in first.revocations + second.revocations}) == PAGE_SIZE + 2
    assert len(second.revocations) == 2


@pytest.mark.parametrize("cursor", ["", "x", "-1", "1_", "9" * 17])
async def test_what_is_no_cursor_is_422(client: httpx.AsyncClient, cursor: str) -> None:
    assert (await client.get("/internal/revocations", params={"after": cursor})).status_code == 422
