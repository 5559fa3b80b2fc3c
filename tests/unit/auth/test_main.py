"""The service as a whole: probes, waiting for a schema, its document, its logs."""

import asyncio

import httpx
import pytest
from auth_service.main import create_app
from auth_service.settings import AuthSettings
from servicekit.auth import SCOPES
from servicekit.database import open_database
from servicekit.logs import configure_logs

from tests.asgi import running
from tests.openapi_links import assert_links_lead_somewhere
from tests.unit.auth.fake_users import PASSWORD, Answer, FakeUsers
from tests.unit.auth.requests import refresh, sign_in, signed_in


async def test_a_service_with_schema_and_keys_is_ready(client: httpx.AsyncClient) -> None:
    assert (await client.get("/readyz")).status_code == 200
    assert (await client.get("/livez")).status_code == 200


async def test_a_service_is_ready_without_users(settings: AuthSettings) -> None:
    async with running(create_app(settings.model_copy(update={"users_url": "http://127.0.0.1:9"}))) as client:
        assert (await client.get("/readyz")).status_code == 200


async def test_a_service_that_must_not_migrate_waits_for_who_does(settings: AuthSettings) -> None:
    app = create_app(settings.model_copy(update={"migrate_at_start": False}))

    async def migrate() -> None:
        async with open_database(settings.database_url) as database:
            await database.migrate("auth_service")

    migration = asyncio.create_task(migrate())
    async with asyncio.timeout(20), running(app) as client:
        assert (await sign_in(client)).status_code == 200
    await migration


async def test_the_settings_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, settings: AuthSettings, restored_logging: None
) -> None:
    monkeypatch.setenv("AUTH_DATABASE_URL", settings.database_url)
    monkeypatch.setenv("AUTH_ISSUER", "https://pinhole.example")
    monkeypatch.setenv("AUTH_SIGNING_ALGORITHM", "ES256")
    async with running(create_app()) as client:
        metadata = (await client.get("/.well-known/openid-configuration")).json()
    assert metadata["issuer"] == "https://pinhole.example"


async def test_the_document_describes_the_form_and_every_error(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi/auth.json")).json()
    operation = document["paths"]["/token"]["post"]
    (form,) = operation["requestBody"]["content"].items()
    assert form[0] == "application/x-www-form-urlencoded"
    assert [kind["title"] for kind in form[1]["schema"]["oneOf"]] == [
        "PasswordGrant",
        "RefreshGrant",
        "ClientCredentialsGrant",
    ]
    assert operation["responses"].keys() == {"200", "400", "401", "408", "413", "429", "503"}
    error = {"$ref": "#/components/schemas/OAuthErrorResponse"}
    for status in ("400", "401", "408", "413", "429", "503"):
        assert operation["responses"][status]["content"] == {"application/json": {"schema": error}}
    flow = document["components"]["securitySchemes"]["OAuth2PasswordBearer"]["flows"]["password"]
    assert (flow["tokenUrl"], flow["scopes"]) == ("/token", SCOPES)


async def test_the_links_of_the_document_lead_from_tokens_to_what_can_be_done_with_them(
    client: httpx.AsyncClient,
) -> None:
    document = (await client.get("/openapi/auth.json")).json()
    assert assert_links_lead_somewhere(document) >= 9
    assert document["paths"]["/token"]["post"]["responses"]["200"]["links"].keys() == {
        "refresh",
        "revoke",
        "introspect",
    }


async def test_no_log_repeats_a_secret_or_a_name_however_talkative_it_is(
    capsys: pytest.CaptureFixture[str], restored_logging: None, settings: AuthSettings, users: FakeUsers
) -> None:
    configure_logs("auth", level="DEBUG", format="json")
    async with running(create_app(settings)) as client:
        answers = [(await sign_in(client)).json()]
        answers.append((await refresh(client, answers[0]["refresh_token"])).json())
        answers.append((await refresh(client, answers[1]["refresh_token"])).json())
        assert (await refresh(client, answers[0]["refresh_token"])).status_code == 400
        assert (await sign_in(client, password="hunter2")).status_code == 400
        assert (await sign_in(client, password="hunter2\x00")).status_code == 400
        assert (await client.post("/token", params={"username": "ada", "password": "hunter2"})).status_code == 400
        users.answer = Answer(200, b'{"account": "secret of users"}')
        assert (await sign_in(client)).status_code == 503
    output = capsys.readouterr().err
    for event in ("session_started", "sign_in_refused", "refresh_token_reused", "users_answer_invalid", '"request"'):
        assert event in output
    service_tokens = [asked.authorization.removeprefix("Bearer ") for asked in users.asked]
    issued = [answer[name] for answer in answers for name in ("access_token", "refresh_token")]
    for secret in (PASSWORD, "hunter2", "secret of users", '"ada"', "PRIVATE KEY", *issued, *service_tokens):
        assert secret not in output


async def test_sign_ins_are_counted_by_route_and_status(client: httpx.AsyncClient) -> None:
    await signed_in(client)
    metrics = (await client.get("/metrics")).text
    labels = 'http_request_method="POST",http_response_status_code="200",http_route="/token"'
    assert f"http_server_request_duration_seconds_count{{{labels}}} 1.0" in metrics
