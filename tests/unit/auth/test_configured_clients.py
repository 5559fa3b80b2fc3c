"""Clients of the settings: there from the start, gone with their line."""

import asyncio
import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from auth_service.client_rows import write
from auth_service.clients import ConfiguredClient
from auth_service.configured_clients import adopt_configured_clients
from auth_service.main import create_app
from auth_service.settings import AuthSettings
from auth_service.tables import ClientRow
from servicekit.database import open_database, utc_now
from servicekit.settings import load_settings

from tests.asgi import running
from tests.eventually import eventually
from tests.unit.auth.requests import (
    ask_as_client,
    assert_oauth_error,
    bearer,
    register,
    sign_in,
    somebody_waits,
    stored,
)

SECRET, NEXT_SECRET = "a" * 64, "b" * 64


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def configured(*secrets: str, **fields: Any) -> ConfiguredClient:
    document = {"id": "robot", "name": "Robot", "scopes": ["clients:admin"], **fields}
    return ConfiguredClient.model_validate(document | {"secret_sha256": [sha256(secret) for secret in secrets]})


def with_clients(settings: AuthSettings, *clients: ConfiguredClient) -> AuthSettings:
    return settings.model_copy(update={"clients": clients})


@pytest.mark.parametrize("dump", [json.dumps, lambda clients: f"# of the operator\n{json.dumps(clients, indent=1)}"])
def test_clients_are_read_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, dump: Any) -> None:
    file = tmp_path / "clients.yaml"
    file.write_text(dump([{"id": "robot", "name": "Robot", "scopes": ["users:read"], "secret_sha256": [sha256("x")]}]))
    monkeypatch.setenv("AUTH_CLIENTS_FILE", str(file))
    (client,) = load_settings(AuthSettings).clients
    assert (client.id, client.token_endpoint_auth_method) == ("robot", "client_secret_basic")


POD = {
    "id": "pod",
    "name": "Pod",
    "scopes": ["users:read"],
    "token_endpoint_auth_method": "private_key_jwt",
    "service_account": "reports:nightly",
}
ROBOT = {"id": "robot", "name": "Robot", "scopes": ["users:read"], "secret_sha256": [sha256("x")]}


@pytest.mark.parametrize(
    ("clients", "message"),
    [
        ("{", "AUTH_CLIENTS: .*expected a list"),
        ("1", "AUTH_CLIENTS"),
        (json.dumps([ROBOT, ROBOT]), "AUTH_CLIENTS: .*each id once"),
        (json.dumps([POD, POD | {"id": "other"}]), "AUTH_CLIENTS: .*each ServiceAccount once"),
        (json.dumps([ROBOT | {"secret_sha256": []}]), "AUTH_CLIENTS.0: .*secret_sha256"),
        (json.dumps([POD | {"secret_sha256": [sha256("x")]}]), "AUTH_CLIENTS.0: .*secret_sha256"),
        (json.dumps([ROBOT | {"secret_sha256": ["plain"]}]), "AUTH_CLIENTS.0.secret_sha256.0"),
        (json.dumps([ROBOT, ROBOT | {"id": "pinhole-web"}]), "AUTH_CLIENTS.1: .*own"),
        (json.dumps([ROBOT | {"secret_sha256": [sha256(text) for text in "xyz"]}]), "AUTH_CLIENTS.0.secret_sha256"),
    ],
)
def test_what_is_no_list_of_clients_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, clients: str, message: str
) -> None:
    monkeypatch.setenv("AUTH_CLIENTS", clients)
    with pytest.raises(SystemExit, match=message):
        load_settings(AuthSettings)


async def test_a_configured_client_is_there_from_the_start_and_not_changed_over_http(settings: AuthSettings) -> None:
    async with running(create_app(with_clients(settings, configured(SECRET)))) as client:
        assert (await ask_as_client(client, f"robot:{SECRET}")).status_code == 200
        root = bearer((await sign_in(client, "root")).json())
        assert (await client.get("/clients/robot", headers=root)).json()["is_configured"] is True
        for response in (
            await client.patch("/clients/robot", json={"name": "x"}, headers=root),
            await client.delete("/clients/robot", headers=root),
            await client.post("/clients/robot/secrets", headers=root),
        ):
            assert (response.status_code, response.json()["type"]) == (409, "urn:pinhole:problem:client-configured")


async def test_secrets_are_rotated_in_the_settings_without_a_gap(settings: AuthSettings) -> None:
    tokens: dict[str, Any] = {}

    async def works(client: httpx.AsyncClient, secret: str) -> bool:
        response = await client.get("/clients", headers=bearer(tokens[secret]))
        return response.status_code == 200

    async with running(create_app(with_clients(settings, configured(SECRET)))) as client:
        tokens[SECRET] = (await ask_as_client(client, f"robot:{SECRET}")).json()
    async with running(create_app(with_clients(settings, configured(SECRET, NEXT_SECRET)))) as client:
        tokens[NEXT_SECRET] = (await ask_as_client(client, f"robot:{NEXT_SECRET}")).json()
        assert await works(client, SECRET)
        assert await works(client, NEXT_SECRET)
    async with running(create_app(with_clients(settings, configured(NEXT_SECRET)))) as client:
        assert_oauth_error(await ask_as_client(client, f"robot:{SECRET}"), 401, "invalid_client")
        assert not await works(client, SECRET)
        assert await works(client, NEXT_SECRET)


async def test_a_secret_that_ran_out_by_and_by_stays_where_the_settings_have_it(settings: AuthSettings) -> None:
    async with running(create_app(settings)) as client:
        secret = (await register(client, "robot"))["secret"]
        root = bearer((await sign_in(client, "root")).json())
        assert (await client.post("/clients/robot/secrets", headers=root)).status_code == 201
    async with running(create_app(with_clients(settings, configured(secret)))) as client:
        assert (await ask_as_client(client, f"robot:{secret}")).status_code == 200
        root = bearer((await sign_in(client, "root")).json())
        (kept,) = (await client.get("/clients/robot", headers=root)).json()["secrets"]
        assert kept["expires_at"] is None


async def test_a_client_that_is_no_longer_configured_is_gone_and_registered_ones_stay(settings: AuthSettings) -> None:
    async with running(create_app(with_clients(settings, configured(SECRET)))) as client:
        token = (await ask_as_client(client, f"robot:{SECRET}")).json()
        secret = (await register(client))["secret"]
    async with running(create_app(settings)) as client:
        assert_oauth_error(await ask_as_client(client, f"robot:{SECRET}"), 401, "invalid_client")
        assert (await client.get("/clients", headers=bearer(token))).status_code == 401
        assert (await ask_as_client(client, f"nightly:{secret}")).status_code == 200


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_replicas_that_start_together_take_turns(settings: AuthSettings) -> None:
    """SQLite lets one writer in at a time."""
    robot = configured(SECRET)
    async with open_database(settings.database_url) as database:
        async with stored(settings) as first:
            row = ClientRow(id=robot.id, created_at=utc_now(), is_configured=True, secrets=[])
            write(row, robot)
            first.add(row)
            await first.flush()
            second = asyncio.create_task(adopt_configured_clients(database, [robot]))
            await eventually(partial(somebody_waits, settings))
        await second
    async with stored(settings) as transaction:
        assert len((await transaction.get_one(ClientRow, robot.id)).secrets) == 1


async def test_a_configured_client_takes_the_place_of_a_registered_one(settings: AuthSettings) -> None:
    async with running(create_app(settings)) as client:
        secret = (await register(client))["secret"]
    taken = configured(SECRET, id="nightly")
    async with running(create_app(with_clients(settings, taken))) as client:
        assert_oauth_error(await ask_as_client(client, f"nightly:{secret}"), 401, "invalid_client")
        assert (await ask_as_client(client, f"nightly:{SECRET}")).status_code == 200


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"one": "a:a", "two": "a:b"}, {"one": "a:b", "two": "a:a"}),
        ({"one": "a:a"}, {"two": "a:a"}),
        ({"one": "a:a"}, {"two": "a:a", "one": "a:b"}),
        ({"two": "a:a"}, {"one": "a:a", "two": "a:b"}),
    ],
    ids=["exchanged", "renamed", "to a new one before it", "to a new one of an earlier id"],
)
async def test_a_service_account_goes_from_one_configured_client_to_another(
    settings: AuthSettings, before: dict[str, str], after: dict[str, str]
) -> None:
    for accounts in (before, after):
        clients = [
            ConfiguredClient.model_validate(POD | {"id": name, "service_account": account})
            for name, account in accounts.items()
        ]
        async with running(create_app(with_clients(settings, *clients))) as client:
            listed = (await client.get("/clients", headers=bearer((await sign_in(client, "root")).json()))).json()
    assert {row["id"]: row["service_account"] for row in listed["clients"]} == after


async def test_a_service_account_of_a_registered_client_stops_the_start_with_a_word(settings: AuthSettings) -> None:
    own = {name: value for name, value in POD.items() if name not in {"id", "name"}}
    async with running(create_app(settings)) as client:
        await register(client, "registered", **own)
    async with open_database(settings.database_url) as database:
        with pytest.raises(SystemExit, match=r"AUTH_CLIENTS: .*reports:nightly.*registered"):
            await adopt_configured_clients(database, [ConfiguredClient.model_validate(POD)])
