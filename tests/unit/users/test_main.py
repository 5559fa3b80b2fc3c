"""The service as a whole: start, stop, probes, documents, logs."""

import asyncio

import pytest
import structlog
from servicekit.database import open_database
from servicekit.logs import configure_logs
from structlog.testing import capture_logs
from structlog.typing import EventDict, WrappedLogger
from users_service.main import create_app

from tests.asgi import running
from tests.issuer import Issuer
from tests.openapi_links import assert_links_lead_somewhere
from tests.unit.users.driver import PASSWORD, Users, serving, users_settings


async def test_accounts_outlive_the_process(database_url: str, issuer: Issuer) -> None:
    settings = users_settings(database_url, issuer)
    async with serving(settings, issuer) as users:
        account = await users.create("ada", password=PASSWORD, full_name="Ada")
    async with serving(settings, issuer) as users:
        assert (await users.http.get("/users", headers=users.admin)).json() == [account]
        assert await users.sign_in("ada") is not None


async def test_it_is_ready_with_keys_and_schema(users: Users) -> None:
    await users.create("ada")  # a token was verified: the keys are there
    assert (await users.http.get("/readyz")).status_code == 200
    assert (await users.http.get("/livez")).status_code == 200
    metrics = (await users.http.get("/metrics")).text
    assert "http_server_request_duration_seconds" in metrics
    assert 'db_client_connection_count{state="idle"} 1.0' in metrics


async def test_without_keys_it_is_not_ready(database_url: str, issuer: Issuer) -> None:
    async with serving(users_settings(database_url, issuer, auth_url="http://127.0.0.1:9"), issuer) as users:
        response = await users.http.get("/readyz")
    assert response.status_code == 503
    assert "keys" in response.json()["detail"]
    assert "schema" not in response.json()["detail"]


async def test_a_start_that_may_not_migrate_waits_for_the_schema(empty_database_url: str, issuer: Issuer) -> None:
    settings = users_settings(empty_database_url, issuer, migrate_at_start=False)

    async def start() -> int:
        async with running(create_app(settings)) as http:
            return (await http.get("/livez")).status_code

    waiting = asyncio.Event()

    def notice(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        if event["event"] == "waiting_for_schema":
            waiting.set()
        raise structlog.DropEvent

    with capture_logs(processors=[notice]):
        starting = asyncio.create_task(start())
        async with asyncio.timeout(10):
            await waiting.wait()
        async with open_database(settings.database_url) as database:
            await database.migrate("users_service")
        assert await starting == 200


async def test_internal_paths_are_not_documented_and_every_other_is(users: Users) -> None:
    document = (await users.http.get("/openapi/users.json")).json()
    assert sorted(document["paths"]) == [
        "/events",
        "/users",
        "/users/me",
        "/users/me/export",
        "/users/me/password",
        "/users/{user_id}",
        "/users/{user_id}/password",
        "/users/{user_id}/restore",
    ]
    patch = document["paths"]["/users/me"]["patch"]["requestBody"]["content"]
    assert sorted(patch) == ["application/json", "application/merge-patch+json"]
    for path in document["paths"].values():
        for operation in path.values():
            assert operation["security"]
            assert {"401", "403"} <= operation["responses"].keys()


async def test_the_links_of_the_document_lead_from_an_account_to_what_can_be_done_with_it(users: Users) -> None:
    document = (await users.http.get("/openapi/users.json")).json()
    assert assert_links_lead_somewhere(document) >= 7
    assert document["paths"]["/users"]["post"]["responses"]["201"]["links"].keys() >= {"read", "change", "delete"}


async def test_no_password_and_no_address_reaches_a_log(
    database_url: str, issuer: Issuer, capfd: pytest.CaptureFixture[str], restored_logging: None
) -> None:
    configure_logs("users", level="DEBUG", format="json")
    settings = users_settings(database_url, issuer, sign_up="open", admin_password="administrators secret")
    body = {"username": "ada", "email": "ada.l@example.net", "full_name": "Ada Lovelace", "password": PASSWORD}
    async with serving(settings, issuer) as users:
        account = (await users.http.post("/users", json=body)).json()
        for _ in range(2):
            await users.http.post("/users", json=body)
        await users.http.post("/users", json=body | {"email": "ada.l@"})
        await users.sign_in("ada.l@example.net")
        await users.sign_in("ada.l@example.net", "wrong guess")
        change = {"current_password": PASSWORD, "new_password": "the next password"}
        await users.http.post("/users/me/password", json=change, headers=users.own(account))
        await users.http.patch("/users/me", json={"email": "lovelace@example.net"}, headers=users.own(account))
        await users.http.delete(f"/users/{account['id']}", headers=users.own(account))
    logged = "".join(capfd.readouterr())
    assert '"event": "account_created"' in logged
    for secret in (PASSWORD, "administrators secret", "wrong guess", "next password", "example.net", "Lovelace", "eyJ"):
        assert secret not in logged
