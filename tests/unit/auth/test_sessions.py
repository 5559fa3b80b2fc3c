"""Refresh tokens: rotation, retries, reuse, races and the end of sessions."""

import asyncio
import base64
import hashlib
from datetime import timedelta

import httpx
import pytest
from auth_service.errors import InvalidGrant
from auth_service.main import create_app
from auth_service.metrics import AuthMetrics
from auth_service.sessions import PURGE_AFTER, PURGE_AT_ONCE, Lifetimes, Sessions
from auth_service.settings import AuthSettings
from auth_service.tables import Base, RefreshTokenRow, SessionRow
from servicekit.database import Database, open_database, utc_now
from sqlalchemy import func, select

from tests.asgi import running
from tests.unit.auth.fake_users import ADA, FakeUsers
from tests.unit.auth.requests import (
    assert_oauth_error,
    clock_off,
    let_pass,
    refresh,
    sign_in,
    signed_in,
    stored,
    verified,
)

GRACE = timedelta(seconds=30)


async def test_a_refresh_gives_new_tokens_of_the_same_session(client: httpx.AsyncClient) -> None:
    first = (await sign_in(client)).json()
    response = await refresh(client, first["refresh_token"])
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    second = response.json()
    assert second["refresh_token"] != first["refresh_token"]
    assert second["scope"] == first["scope"]
    before, after = await verified(client, first["access_token"]), await verified(client, second["access_token"])
    assert (after.subject, after.session_id) == (before.subject, before.session_id)
    assert after.token_id != before.token_id


async def test_a_retry_within_the_grace_gets_the_same_successor(
    client: httpx.AsyncClient, settings: AuthSettings
) -> None:
    token = await signed_in(client)
    first = await refresh(client, token)
    await let_pass(settings, GRACE - timedelta(seconds=5))
    retry = await refresh(client, token)
    assert retry.status_code == 200
    assert retry.json()["refresh_token"] == first.json()["refresh_token"]


async def test_a_retry_at_a_replica_whose_clock_is_ahead_is_no_reuse(client: httpx.AsyncClient) -> None:
    token = await signed_in(client)
    successor = (await refresh(client, token)).json()["refresh_token"]
    with clock_off(GRACE * 2):
        assert (await refresh(client, token)).json()["refresh_token"] == successor


async def test_reuse_after_the_grace_ends_the_session(client: httpx.AsyncClient, settings: AuthSettings) -> None:
    token = await signed_in(client)
    successor = (await refresh(client, token)).json()["refresh_token"]
    await let_pass(settings, GRACE + timedelta(seconds=1))
    assert_oauth_error(await refresh(client, token), 400, "invalid_grant")
    assert_oauth_error(await refresh(client, successor), 400, "invalid_grant")


async def test_reuse_of_a_token_before_the_previous_one_ends_the_session(client: httpx.AsyncClient) -> None:
    first = await signed_in(client)
    second = (await refresh(client, first)).json()["refresh_token"]
    third = (await refresh(client, second)).json()["refresh_token"]
    assert_oauth_error(await refresh(client, first), 400, "invalid_grant")
    assert_oauth_error(await refresh(client, third), 400, "invalid_grant")


async def test_reuse_ends_no_other_session(client: httpx.AsyncClient, settings: AuthSettings) -> None:
    token, other = await signed_in(client), await signed_in(client)
    await refresh(client, token)
    await let_pass(settings, GRACE * 2)
    assert (await refresh(client, token)).status_code == 400
    assert (await refresh(client, other)).status_code == 200


async def test_concurrent_refreshes_of_one_token_get_one_successor(
    client: httpx.AsyncClient, settings: AuthSettings
) -> None:
    token = await signed_in(client)
    async with running(create_app(settings)) as replica:
        responses = await asyncio.gather(*(refresh(side, token) for side in [client, replica] * 25))
    assert [response.status_code for response in responses] == [200] * 50
    assert len({response.json()["refresh_token"] for response in responses}) == 1
    async with stored(settings) as transaction:
        assert await transaction.scalar(select(func.count()).select_from(RefreshTokenRow)) == 2


async def test_a_session_ends_when_it_is_not_used(client: httpx.AsyncClient, settings: AuthSettings) -> None:
    token = await signed_in(client)
    await let_pass(settings, timedelta(seconds=settings.refresh_idle_seconds), of="sessions")
    assert_oauth_error(await refresh(client, token), 400, "invalid_grant")


async def test_a_refresh_keeps_a_session_alive_until_its_absolute_end(
    client: httpx.AsyncClient, settings: AuthSettings
) -> None:
    token = await signed_in(client)
    idle, absolute = settings.refresh_idle_seconds, settings.refresh_absolute_seconds
    step = timedelta(seconds=idle - 3600)
    steps = int(timedelta(seconds=absolute) / step)
    for _ in range(steps):
        await let_pass(settings, step, of="sessions")
        response = await refresh(client, token)
        assert response.status_code == 200
        token = response.json()["refresh_token"]
    await let_pass(settings, timedelta(seconds=absolute) - steps * step, of="sessions")
    assert_oauth_error(await refresh(client, token), 400, "invalid_grant")


async def test_sessions_and_keys_outlive_a_restart(settings: AuthSettings) -> None:
    async with running(create_app(settings)) as client:
        kept = (await sign_in(client)).json()
    async with running(create_app(settings)) as client:
        assert (await verified(client, kept["access_token"])).subject == ADA
        assert (await refresh(client, kept["refresh_token"])).status_code == 200


async def test_no_refresh_token_is_stored(client: httpx.AsyncClient, settings: AuthSettings) -> None:
    first = await signed_in(client)
    second = (await refresh(client, first)).json()["refresh_token"]
    async with stored(settings) as transaction:
        rows = [row for table in Base.metadata.sorted_tables for row in await transaction.execute(select(table))]
    values = [value.encode() if isinstance(value, str) else value for row in rows for value in row]
    assert hashlib.sha256(first.encode()).digest() in values
    for token in (first, second):
        for secret in (token.encode(), base64.urlsafe_b64decode(token + "=")):
            assert not [value for value in values if isinstance(value, bytes) and secret in value]


async def test_no_two_sessions_make_successors_in_the_same_way(
    client: httpx.AsyncClient, settings: AuthSettings
) -> None:
    """Else who has a token that was used before could compute the one that is good now."""
    for _ in range(2):
        await sign_in(client)
    async with stored(settings) as transaction:
        secrets = (await transaction.scalars(select(SessionRow.successor_secret))).all()
    assert [len(secret) for secret in secrets] == [32, 32]
    assert len({*secrets, bytes(32)}) == 3


async def test_a_deleted_account_loses_its_session(client: httpx.AsyncClient, users: FakeUsers) -> None:
    token = await signed_in(client)
    roles = users.roles.pop(ADA)
    assert_oauth_error(await refresh(client, token), 400, "invalid_grant")
    users.roles[ADA] = roles
    assert_oauth_error(await refresh(client, token), 400, "invalid_grant")


async def test_a_sign_in_purges_some_sessions_that_are_long_over(
    client: httpx.AsyncClient, settings: AuthSettings
) -> None:
    over = [await signed_in(client) for _ in range(PURGE_AT_ONCE + 1)]
    await refresh(client, over[0])
    await let_pass(settings, timedelta(seconds=settings.refresh_idle_seconds), of="sessions")
    await let_pass(settings, PURGE_AFTER + settings.lifetimes.access_token, of="sessions")
    live = await signed_in(client)
    async with stored(settings) as transaction:
        assert await transaction.scalar(select(func.count()).select_from(SessionRow)) == 2
    await signed_in(client)
    async with stored(settings) as transaction:
        assert await transaction.scalar(select(func.count()).select_from(SessionRow)) == 2
        assert await transaction.scalar(select(func.count()).select_from(RefreshTokenRow)) == 2
    assert (await refresh(client, live)).status_code == 200


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_a_sign_in_waits_for_nobody_who_removes_what_is_over(
    client: httpx.AsyncClient, settings: AuthSettings
) -> None:
    """SQLite lets one writer in at a time."""
    for _ in range(2):
        await sign_in(client)
        await let_pass(settings, timedelta(seconds=settings.refresh_absolute_seconds), of="sessions")
    async with stored(settings) as transaction:
        await transaction.scalars(select(SessionRow).limit(1).with_for_update())
        assert (await sign_in(client)).status_code == 200


async def test_a_session_stays_for_a_day_behind_its_last_access_token(
    client: httpx.AsyncClient, settings: AuthSettings
) -> None:
    await sign_in(client)
    await let_pass(settings, timedelta(seconds=settings.refresh_idle_seconds), of="sessions")
    await let_pass(settings, PURGE_AFTER + settings.lifetimes.access_token - timedelta(minutes=1), of="sessions")
    for passed, remaining in ((timedelta(0), 2), (timedelta(minutes=2), 2)):
        await let_pass(settings, passed, of="sessions")
        await sign_in(client)
        async with stored(settings) as transaction:
            assert await transaction.scalar(select(func.count()).select_from(SessionRow)) == remaining


async def test_a_shorter_life_of_tokens_removes_no_session_before_those_that_live_longer(
    settings: AuthSettings,
) -> None:
    """Else nobody would be told any more that it has ended."""
    week = timedelta(days=7)
    longer = settings.model_copy(update={"access_token_seconds": int(week.total_seconds())})
    async with running(create_app(longer)) as client:
        await sign_in(client)
    await let_pass(settings, timedelta(seconds=settings.refresh_idle_seconds), of="sessions")
    for passed, remaining in ((week + PURGE_AFTER - timedelta(minutes=1), 2), (timedelta(minutes=2), 2)):
        await let_pass(settings, passed, of="sessions")
        async with running(create_app(settings)) as client:
            await sign_in(client)
        async with stored(settings) as transaction:
            assert await transaction.scalar(select(func.count()).select_from(SessionRow)) == remaining


def sessions_in(database: Database) -> Sessions:
    return Sessions(
        database,
        Lifetimes(
            access_token=timedelta(minutes=15), idle=timedelta(hours=1), absolute=timedelta(hours=2), grace=GRACE
        ),
        AuthMetrics(None),
    )


async def test_a_refresh_token_of_another_client_is_refused(client: httpx.AsyncClient, settings: AuthSettings) -> None:
    async with open_database(settings.database_url) as database:
        sessions = sessions_in(database)
        session, token = await sessions.start(subject=ADA, client_id="one", scopes=frozenset({"profile"}))
        with pytest.raises(InvalidGrant):
            await sessions.find(token, client_id="two")
        assert await sessions.find(token, client_id="one") == session


async def test_a_session_that_ends_while_it_is_refreshed_gives_nothing(
    client: httpx.AsyncClient, settings: AuthSettings
) -> None:
    async with open_database(settings.database_url) as database:
        sessions = sessions_in(database)
        session, token = await sessions.start(subject=ADA, client_id="one", scopes=frozenset({"profile"}))
        await sessions.find(token, client_id="one")
        await sessions.end(session.id)
        with pytest.raises(InvalidGrant):
            await sessions.rotate(token)


async def test_a_token_that_is_used_twice_between_a_look_at_it_and_its_use_ends_the_session(
    client: httpx.AsyncClient, settings: AuthSettings
) -> None:
    async with open_database(settings.database_url) as database:
        sessions = sessions_in(database)
        _, token = await sessions.start(subject=ADA, client_id="one", scopes=frozenset({"profile"}))
        await sessions.find(token, client_id="one")
        newest = await sessions.rotate(await sessions.rotate(token))
        with pytest.raises(InvalidGrant):
            await sessions.rotate(token)
        with pytest.raises(InvalidGrant):
            await sessions.find(newest, client_id="one")


async def test_a_session_keeps_the_time_of_its_first_end(client: httpx.AsyncClient, settings: AuthSettings) -> None:
    async with open_database(settings.database_url) as database:
        sessions = sessions_in(database)
        session, _ = await sessions.start(subject=ADA, client_id="one", scopes=frozenset({"profile"}))
        await sessions.end(session.id)
        ended = utc_now()
        await sessions.end(session.id)
        async with database.sessions.begin() as transaction:
            row = await transaction.get_one(SessionRow, session.id)
    assert row.ended_at is not None
    assert row.ended_at <= ended
