"""Clients that prove who they are, each in the way that it is registered for."""

import asyncio
import logging
from datetime import timedelta
from functools import partial
from typing import Any
from urllib.parse import quote_plus

import httpx
import pytest
from auth_service.client_assertions import ClientAssertions
from auth_service.client_authentication import ClientAuthenticator, Credentials, read_credentials
from auth_service.client_keys import open_remote_keys
from auth_service.client_registry import ClientRegistry
from auth_service.client_rows import add_secret
from auth_service.client_sessions import ClientSessions
from auth_service.clients import Client, NewClient
from auth_service.errors import InvalidClient, UnauthorizedClient
from auth_service.main import create_app
from auth_service.settings import AuthSettings
from auth_service.tables import ClientRow, SessionRow
from servicekit.auth import SCOPES
from servicekit.database import open_database
from servicekit.logs import AUDIT
from sqlalchemy import func, select

from tests.asgi import running
from tests.eventually import eventually
from tests.unit.auth.fake_users import PASSWORD, FakeUsers
from tests.unit.auth.requests import (
    ask_as_client,
    assert_oauth_error,
    basic,
    bearer,
    let_pass,
    register,
    revoke,
    sign_in,
    somebody_waits,
    stored,
    verified,
)

GRANT = {"grant_type": "client_credentials"}
EVERYTHING = frozenset(SCOPES)


async def test_a_client_gets_a_token_of_its_own_and_no_refresh_token(client: httpx.AsyncClient) -> None:
    secret = (await register(client, scopes=["users:read", "inference:predict", "profile"]))["secret"]
    response = await ask_as_client(client, f"nightly:{secret}")
    assert response.status_code == 200
    assert (response.headers["cache-control"], response.headers["pragma"]) == ("no-store", "no-cache")
    body = response.json()
    assert body.keys() == {"access_token", "token_type", "expires_in", "scope"}
    assert body["scope"] == "inference:predict users:read"  # `profile` is for those who have an account
    claims = await verified(client, body["access_token"])
    assert (claims.subject, claims.client_id) == ("nightly", "nightly")
    assert claims.session_id
    assert (await ask_as_client(client, f"nightly:{secret}", scope="users:read")).json()["scope"] == "users:read"
    assert_oauth_error(await ask_as_client(client, f"nightly:{secret}", scope="profile"), 400, "invalid_scope")


async def test_a_client_with_profile_alone_gets_nothing_for_itself(client: httpx.AsyncClient) -> None:
    secret = (await register(client, scopes=["profile"]))["secret"]
    assert_oauth_error(await ask_as_client(client, f"nightly:{secret}"), 400, "invalid_scope")


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
async def test_a_client_proves_itself_in_its_own_way_and_no_other(client: httpx.AsyncClient, method: str) -> None:
    secret = (await register(client, token_endpoint_auth_method=method))["secret"]
    answers = {
        "client_secret_basic": await ask_as_client(client, f"nightly:{secret}"),
        "client_secret_post": await client.post(
            "/token", data=GRANT | {"client_id": "nightly", "client_secret": secret}
        ),
        "none": await client.post("/token", data=GRANT | {"client_id": "nightly"}),
    }
    assert answers.pop(method).status_code == 200
    for answer in answers.values():
        assert_oauth_error(answer, 401, "invalid_client")


async def test_a_secret_may_need_encoding() -> None:
    """RFC 6749 section 2.3.1."""
    header = basic(f"{quote_plus('a:b')}:{quote_plus('ä +&%:')}")["Authorization"]
    assert read_credentials({}, header) == Credentials("a:b", "client_secret_basic", "ä +&%:")


@pytest.mark.parametrize("secret", ["wrong", "é", "x" * 8000])
async def test_a_wrong_secret_is_401_before_anything_else_is_looked_at(
    client: httpx.AsyncClient, users: FakeUsers, caplog: pytest.LogCaptureFixture, secret: str
) -> None:
    caplog.set_level(logging.INFO, logger=AUDIT)
    await register(client, grant_types=["password", "client_credentials"], first_party=True)
    users.asked.clear()
    form = {"grant_type": "password", "username": "ada", "password": PASSWORD}
    for body in (form, GRANT, {"grant_type": "nonsense"}, {"grant": "none"}):
        response = await client.post("/token", data=body, headers=basic(f"nightly:{quote_plus(secret)}"))
        assert_oauth_error(response, 401, "invalid_client")
    assert not users.asked
    assert len([line for line in caplog.messages if "event='client_refused' audit=True" in line]) == 4


@pytest.mark.parametrize("client_id", ["\x00", "Nightly", "é", "x" * 5000])
async def test_what_can_be_no_client_is_401_whatever_the_database(client: httpx.AsyncClient, client_id: str) -> None:
    form = GRANT | {"client_id": client_id}
    assert_oauth_error(await client.post("/token", data=form), 401, "invalid_client")
    assert_oauth_error(await client.post("/token", data=form | {"client_secret": "x"}), 401, "invalid_client")
    assert_oauth_error(await ask_as_client(client, f"{quote_plus(client_id)}:x"), 401, "invalid_client")


async def test_two_ways_at_once_are_an_invalid_request(client: httpx.AsyncClient) -> None:
    secret = (await register(client))["secret"]
    both = await client.post("/token", data=GRANT | {"client_secret": secret}, headers=basic(f"nightly:{secret}"))
    assert_oauth_error(both, 400, "invalid_request")


async def test_a_secret_without_a_client_is_401(client: httpx.AsyncClient) -> None:
    assert_oauth_error(await client.post("/token", data=GRANT | {"client_secret": "x"}), 401, "invalid_client")


async def test_a_credential_has_one_session_however_often_it_is_used(
    client: httpx.AsyncClient, settings: AuthSettings
) -> None:
    secret = (await register(client))["secret"]
    for _ in range(3):
        await ask_as_client(client, f"nightly:{secret}")
    async with stored(settings) as transaction:
        query = select(func.count()).select_from(SessionRow).where(SessionRow.subject == "nightly")
        assert await transaction.scalar(query) == 1


async def test_a_credential_gets_another_session_before_a_token_would_outlive_it(
    client: httpx.AsyncClient, settings: AuthSettings
) -> None:
    secret = (await register(client))["secret"]
    sessions = []
    for passed in (timedelta(0), timedelta(hours=23, minutes=59), timedelta(minutes=2), timedelta(0)):
        await let_pass(settings, passed, of="sessions")
        token = (await ask_as_client(client, f"nightly:{secret}")).json()["access_token"]
        sessions.append((await verified(client, token)).session_id)
    assert sessions[0] == sessions[1] != sessions[2] == sessions[3]


async def test_tokens_that_live_longer_than_a_session_knows_get_another(settings: AuthSettings) -> None:
    """It is by the sessions that one knows for how long an end has to be told, and a key has to be kept."""
    sessions: list[str | None] = []
    for seconds in (900, 3600, 900):
        async with running(create_app(settings.model_copy(update={"access_token_seconds": seconds}))) as client:
            if not sessions:
                secret = (await register(client))["secret"]
            token = (await ask_as_client(client, f"nightly:{secret}")).json()["access_token"]
            sessions.append((await verified(client, token)).session_id)
    assert sessions[0] != sessions[1] == sessions[2]


async def test_a_client_may_revoke_its_tokens_and_get_new_ones(client: httpx.AsyncClient) -> None:
    secret = (await register(client, scopes=["clients:admin"]))["secret"]
    token = (await ask_as_client(client, f"nightly:{secret}")).json()
    assert (await revoke(client, token["access_token"])).json()["error"] == "invalid_grant"  # not pinhole-web's
    response = await client.post(
        "/oauth2/revoke", data={"token": token["access_token"]}, headers=basic(f"nightly:{secret}")
    )
    assert response.status_code == 200
    assert (await client.get("/clients", headers=bearer(token))).status_code == 401
    renewed = (await ask_as_client(client, f"nightly:{secret}")).json()
    assert (await client.get("/clients", headers=bearer(renewed))).status_code == 200


@pytest.mark.parametrize("scope", ["users:read", "inference:predict"])
async def test_a_client_may_ask_what_a_token_is_of_its_own_or_by_its_scope(
    client: httpx.AsyncClient, scope: str
) -> None:
    secret = (await register(client, scopes=[scope]))["secret"]
    own, adas = (await ask_as_client(client, f"nightly:{secret}")).json(), (await sign_in(client)).json()
    for token, is_told in ((own, True), (adas, scope == "users:read")):
        form = {"token": token["access_token"]}
        response = await client.post("/oauth2/introspect", data=form, headers=basic(f"nightly:{secret}"))
        assert (response.status_code, response.json()["active"]) == (200, is_told)


async def test_only_a_client_that_proves_itself_may_ask(client: httpx.AsyncClient) -> None:
    await register(client)
    for form, headers, error in (
        ({"client_id": "pinhole-web"}, {}, "invalid_token"),
        ({}, basic("nightly:wrong"), "invalid_client"),
    ):
        response = await client.post("/oauth2/introspect", data={"token": "x", **form}, headers=headers)
        assert (response.status_code, response.json()["error"]) == (401, error)


@pytest.mark.parametrize("what", ["secret", "client", "scope", "grant"])
async def test_what_is_taken_away_while_a_token_is_made_ends_its_session(settings: AuthSettings, what: str) -> None:
    async with open_database(settings.database_url) as database, open_remote_keys() as keys:
        await database.migrate("auth_service")
        assertions = ClientAssertions(database, audiences=frozenset(), keys=keys, cluster=None, cluster_keys=keys)
        registry, clients = ClientRegistry(database), ClientAuthenticator(database, assertions)
        fields: Any = {"id": "nightly", "name": "x", "scopes": {"users:read", "users:write"}}
        fields["grant_types"] = {"client_credentials", "refresh_token"}
        row, secret = await registry.register(NewClient(**fields), scopes=EVERYTHING)
        assert secret is not None
        client = await clients.authenticate(Credentials("nightly", "client_secret_basic", secret))
        session_id = await ClientSessions(database, access_token_seconds=900).current(client)
        await clients.confirm(client, session_id)
        if what == "client":
            await registry.delete("nightly", scopes=EVERYTHING)
        elif what == "secret":
            await registry.end_secret("nightly", row.secrets[0].id, scopes=EVERYTHING)
        else:
            less: Any = {"scopes": {"users:read"}} if what == "scope" else {"grant_types": {"client_credentials"}}
            await registry.change("nightly", less, scopes=EVERYTHING)
        # As if it had started just then, and was not seen.
        session_id = await ClientSessions(database, access_token_seconds=900).current(client)
        with pytest.raises(InvalidClient):
            await clients.confirm(client, session_id)
        async with database.begin() as transaction:
            assert (await transaction.get_one(SessionRow, session_id)).ended_at is not None


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_a_token_waits_for_a_change_of_its_client_that_is_under_way(
    client: httpx.AsyncClient, settings: AuthSettings
) -> None:
    """SQLite lets one writer in at a time."""
    secret = (await register(client))["secret"]
    assert (await ask_as_client(client, f"nightly:{secret}")).status_code == 200
    async with stored(settings) as transaction:
        row = await transaction.get_one(ClientRow, "nightly", with_for_update=True)
        row.scope = "inference:predict"
        await transaction.flush()
        asking = asyncio.create_task(ask_as_client(client, f"nightly:{secret}"))
        await eventually(partial(somebody_waits, settings))
    assert_oauth_error(await asking, 401, "invalid_client")


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_a_third_secret_does_not_slip_in_beside_a_second(
    client: httpx.AsyncClient, settings: AuthSettings
) -> None:
    """SQLite lets one writer in at a time."""
    await register(client)
    root = bearer((await sign_in(client, "root")).json())
    async with stored(settings) as transaction:
        add_secret(await transaction.get_one(ClientRow, "nightly", with_for_update=True))
        await transaction.flush()
        adding = asyncio.create_task(client.post("/clients/nightly/secrets", headers=root))
        await eventually(partial(somebody_waits, settings))
    assert (await adding).status_code == 409


async def test_who_has_proven_nothing_gets_no_session_and_nobody_elses(
    client: httpx.AsyncClient, settings: AuthSettings
) -> None:
    await sign_in(client)
    async with open_database(settings.database_url) as database:
        sessions = ClientSessions(database, access_token_seconds=900)
        with pytest.raises(UnauthorizedClient):
            await sessions.current(Client("page", frozenset({"client_credentials"}), EVERYTHING))


async def test_many_at_once_all_get_tokens(client: httpx.AsyncClient) -> None:
    secret = (await register(client))["secret"]
    answers = await asyncio.gather(*(ask_as_client(client, f"nightly:{secret}") for _ in range(10)))
    assert {answer.status_code for answer in answers} == {200}
