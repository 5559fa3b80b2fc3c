"""The token endpoint, as clients of every kind and temper meet it."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Mapping
from typing import NoReturn
from urllib.parse import urlencode

import httpx
import pytest
import pytest_asyncio
from auth_service.dependencies import get_grants
from auth_service.forms import MAX_FORM_BYTES
from auth_service.grants import Grants
from auth_service.main import create_app
from auth_service.routers.introspection import authenticate_introspector
from auth_service.settings import AuthSettings
from auth_service.tables import SessionRow
from servicekit.auth import SCOPES
from servicekit.database import utc_now
from servicekit.problem import Conflict, ServiceUnavailable
from sqlalchemy import update

from tests.asgi import running
from tests.unit.auth.conftest import auth_settings
from tests.unit.auth.fake_users import ADA, PASSWORD, ROOT, Answer, FakeUsers
from tests.unit.auth.requests import (
    assert_oauth_error,
    basic,
    bearer,
    refresh,
    register,
    sign_in,
    signed_in,
    stored,
    verified,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

FORM = "application/x-www-form-urlencoded"
GOOD = {"grant_type": "password", "username": "ada", "password": PASSWORD}


@pytest.fixture(autouse=True)
def _fresh_users(users: FakeUsers) -> None:
    """Forget what the last test made of users; the service under test stays."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(shared_database_url: str, users_server: FakeUsers) -> AsyncIterator[httpx.AsyncClient]:
    """One service for all: none of these tests minds the sessions of the others."""
    async with running(create_app(auth_settings(shared_database_url, users_server))) as client:
        yield client


async def post(client: httpx.AsyncClient, body: str | bytes, content_type: str = FORM) -> httpx.Response:
    return await client.post("/token", content=body, headers={"Content-Type": content_type})


# What a sign-in gets


async def test_a_sign_in_gets_tokens_that_nobody_stores_on_the_way(client: httpx.AsyncClient) -> None:
    response = await sign_in(client)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["pragma"] == "no-cache"
    body = response.json()
    assert body.keys() == {"access_token", "token_type", "expires_in", "refresh_token", "scope"}
    assert (body["token_type"], body["expires_in"]) == ("Bearer", 900)
    assert len(base64.urlsafe_b64decode(body["refresh_token"] + "=")) == 32


async def test_the_access_token_says_who_may_do_what_for_how_long(client: httpx.AsyncClient) -> None:
    body = (await sign_in(client)).json()
    claims = await verified(client, body["access_token"])
    assert (claims.subject, claims.client_id) == (ADA, "pinhole-web")
    assert claims.scopes == {"inference:predict", "profile"}
    assert claims.expires_at - claims.issued_at == 900
    assert claims.session_id


async def test_an_administrator_gets_every_scope(client: httpx.AsyncClient) -> None:
    body = (await sign_in(client, "root")).json()
    assert set(body["scope"].split(" ")) == set(SCOPES)
    assert (await verified(client, body["access_token"])).scopes == set(SCOPES)


async def test_the_path_answers_with_a_slash_too(client: httpx.AsyncClient) -> None:
    assert (await client.post("/token/", data=GOOD)).status_code == 200


@pytest.mark.parametrize(
    ("scope", "granted"),
    [
        ("profile", "profile"),
        ("profile inference:predict profile", "inference:predict profile"),
        ("profile users:write openid", "profile"),
        ("", "inference:predict profile"),
    ],
)
async def test_a_requested_scope_only_narrows(client: httpx.AsyncClient, scope: str, granted: str) -> None:
    body = (await sign_in(client, scope=scope)).json()
    assert body["scope"] == granted
    assert (await verified(client, body["access_token"])).scopes == set(granted.split(" "))


@pytest.mark.parametrize("scope", ["users:write", "openid", "internal:accounts", " ", "profile  profile", 'a"b', "é"])
async def test_a_scope_of_which_nothing_can_be_granted_is_invalid(client: httpx.AsyncClient, scope: str) -> None:
    assert_oauth_error(await sign_in(client, scope=scope), 400, "invalid_scope")


@pytest.mark.parametrize("roles", [[], ["gardener"]])
async def test_an_account_without_a_known_role_gets_nothing(
    client: httpx.AsyncClient, users: FakeUsers, roles: list[str]
) -> None:
    users.roles[ADA] = roles
    assert_oauth_error(await sign_in(client), 400, "invalid_scope")


async def test_a_refresh_may_ask_for_less_and_never_for_more_than_the_sign_in_granted(
    client: httpx.AsyncClient,
) -> None:
    token = await signed_in(client, "root", scope="profile users:read")
    narrowed = (await refresh(client, token, scope="profile")).json()
    assert narrowed["scope"] == "profile"
    assert_oauth_error(await refresh(client, narrowed["refresh_token"], scope="users:write"), 400, "invalid_scope")
    # RFC 6749 section 6: the new refresh token has the scope of the one that was sent.
    assert (await refresh(client, narrowed["refresh_token"])).json()["scope"] == "profile users:read"


async def test_a_refresh_gives_no_more_than_the_roles_of_now(client: httpx.AsyncClient, users: FakeUsers) -> None:
    token = await signed_in(client, "root")
    users.roles[ROOT] = ["user"]
    assert (await refresh(client, token)).json()["scope"] == "inference:predict profile"


async def test_an_invalid_scope_does_not_use_up_the_refresh_token(client: httpx.AsyncClient) -> None:
    token = await signed_in(client)
    assert_oauth_error(await refresh(client, token, scope="users:read"), 400, "invalid_scope")
    assert (await refresh(client, token)).status_code == 200


async def test_another_algorithm_makes_another_kind_of_key(settings: AuthSettings) -> None:
    async with running(create_app(settings.model_copy(update={"signing_algorithm": "RS256"}))) as client:
        body = (await sign_in(client)).json()
        assert (await verified(client, body["access_token"])).subject == ADA


# What users is told


async def test_users_is_asked_with_the_credentials_as_they_were_typed(
    client: httpx.AsyncClient, users: FakeUsers
) -> None:
    typed = {"username": " Ädà+&=% ", "password": 'pä\\ss"\tword 🎉'}
    assert_oauth_error(await client.post("/token", data={"grant_type": "password", **typed}), 400, "invalid_grant")
    (asked,) = users.asked
    assert (asked.path, json.loads(asked.body)) == ("/internal/credentials/verify", typed | {"address": "127.0.0.1"})


# Refused credentials


@pytest.mark.parametrize(("username", "password"), [("ada", "wrong"), ("nobody", PASSWORD), ("ada", "x" * 9000)])
async def test_refused_credentials_get_one_answer_for_every_cause(
    client: httpx.AsyncClient, username: str, password: str
) -> None:
    response = await sign_in(client, username, password=password)
    assert_oauth_error(response, 400, "invalid_grant")
    assert response.content == (await sign_in(client, "ada", password="wrong too")).content


@pytest.mark.parametrize("username", ["ada", "nobody"])
async def test_an_empty_password_is_a_wrong_one(client: httpx.AsyncClient, users: FakeUsers, username: str) -> None:
    response = await sign_in(client, username, password="")
    assert_oauth_error(response, 400, "invalid_grant")
    assert [json.loads(asked.body)["password"] for asked in users.asked] == [""], "it is counted, and costs a hash"
    assert response.content == (await sign_in(client, "ada", password="wrong")).content


async def test_credentials_that_users_calls_invalid_are_refused_like_wrong_ones(
    client: httpx.AsyncClient, users: FakeUsers
) -> None:
    users.answer = Answer(422, b"{}")
    assert_oauth_error(await sign_in(client), 400, "invalid_grant")


@pytest.mark.parametrize("token", ["x", "A" * 43, "é", "\x00", "x" * 9000])
async def test_what_is_no_refresh_token_is_an_invalid_grant(client: httpx.AsyncClient, token: str) -> None:
    assert_oauth_error(await refresh(client, token), 400, "invalid_grant")


async def test_an_access_token_is_no_refresh_token(client: httpx.AsyncClient) -> None:
    access_token = (await sign_in(client)).json()["access_token"]
    assert_oauth_error(await refresh(client, access_token), 400, "invalid_grant")


# Malformed requests


@pytest.mark.parametrize(
    ("missing", "is_sent_empty"),
    # An empty password is a wrong one.
    [("grant_type", False), ("grant_type", True), ("username", False), ("username", True), ("password", False)],
)
async def test_a_missing_or_empty_parameter_is_named(
    client: httpx.AsyncClient, missing: str, is_sent_empty: bool
) -> None:
    form = {name: value for name, value in GOOD.items() if name != missing}
    response = await client.post("/token", data={**form, missing: ""} if is_sent_empty else form)
    assert_oauth_error(response, 400, "invalid_request")
    assert missing in response.json()["error_description"]


async def test_a_refresh_without_a_token_is_an_invalid_request(client: httpx.AsyncClient) -> None:
    assert_oauth_error(await client.post("/token", data={"grant_type": "refresh_token"}), 400, "invalid_request")


@pytest.mark.parametrize("name", ["grant_type", "username", "password", "scope", "client_id", "resource"])
async def test_a_repeated_parameter_is_refused(client: httpx.AsyncClient, users: FakeUsers, name: str) -> None:
    response = await post(client, urlencode(GOOD | {name: "x"}) + "&" + urlencode({name: "x"}))
    assert_oauth_error(response, 400, "invalid_request")
    assert not users.asked


async def test_an_unknown_parameter_is_ignored(client: httpx.AsyncClient) -> None:
    assert (await sign_in(client, audience="somewhere")).status_code == 200


async def test_parameters_in_the_address_do_not_count(client: httpx.AsyncClient) -> None:
    response = await client.post("/token", params=GOOD, content=b"", headers={"Content-Type": FORM})
    assert_oauth_error(response, 400, "invalid_request")


@pytest.mark.parametrize("grant_type", ["authorization_code", "Password", "\x00"])
async def test_another_grant_type_is_unsupported(client: httpx.AsyncClient, grant_type: str) -> None:
    response = await client.post("/token", data=GOOD | {"grant_type": grant_type})
    assert_oauth_error(response, 400, "unsupported_grant_type")


async def test_a_grant_that_the_client_may_not_use_is_refused_as_such(client: httpx.AsyncClient) -> None:
    response = await client.post("/token", data={"grant_type": "client_credentials"})
    assert_oauth_error(response, 400, "unauthorized_client")


async def test_passwords_can_be_switched_off_for_everybody(settings: AuthSettings, users: FakeUsers) -> None:
    async with running(create_app(settings.model_copy(update={"password_grant": False}))) as client:
        assert_oauth_error(await sign_in(client), 400, "unsupported_grant_type")
        metadata = (await client.get("/.well-known/oauth-authorization-server")).json()
    assert "password" not in metadata["grant_types_supported"]
    assert not users.asked


@pytest.mark.parametrize("content_type", ["application/json", "multipart/form-data; boundary=x", "text/plain", ""])
async def test_a_body_that_is_not_a_form_is_an_invalid_request(client: httpx.AsyncClient, content_type: str) -> None:
    assert_oauth_error(await post(client, urlencode(GOOD), content_type), 400, "invalid_request")


async def test_no_body_is_an_invalid_request(client: httpx.AsyncClient) -> None:
    assert_oauth_error(await client.post("/token"), 400, "invalid_request")


@pytest.mark.parametrize("content_type", [f"{FORM}; charset=UTF-8", FORM.upper()])
async def test_a_form_may_name_its_charset(client: httpx.AsyncClient, content_type: str) -> None:
    assert (await post(client, urlencode(GOOD), content_type)).status_code == 200


@pytest.mark.parametrize("body", [b"\xff\xfe", b"grant_type=%ff", b"a&" * 100])
async def test_a_form_that_cannot_be_read_is_an_invalid_request(client: httpx.AsyncClient, body: bytes) -> None:
    assert_oauth_error(await post(client, body), 400, "invalid_request")


@pytest.mark.parametrize("name", ["username", "password"])
@pytest.mark.parametrize("character", ["\x00", "\n", "\x7f"])
async def test_a_control_character_in_credentials_reaches_nobody(
    client: httpx.AsyncClient, users: FakeUsers, name: str, character: str
) -> None:
    response = await client.post("/token", data=GOOD | {name: f"a{character}b"})
    assert_oauth_error(response, 400, "invalid_request")
    assert not users.asked


async def test_a_declared_length_over_the_limit_is_refused_at_once(client: httpx.AsyncClient) -> None:
    response = await post(client, b"a=" + b"b" * MAX_FORM_BYTES)
    assert_oauth_error(response, 413, "invalid_request")
    assert response.headers["connection"] == "close"


async def test_a_stream_over_the_limit_is_not_read_to_its_end(client: httpx.AsyncClient) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield b"a" * 1024

    response = await client.post("/token", content=endless(), headers={"Content-Type": FORM})
    assert_oauth_error(response, 413, "invalid_request")
    assert sent <= MAX_FORM_BYTES / 1024 + 2


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_another_method_is_refused_in_the_same_form(client: httpx.AsyncClient, method: str) -> None:
    response = await client.request(method, "/token")
    assert response.headers["allow"] == "POST"
    assert response.status_code == 405
    if method != "HEAD":
        assert_oauth_error(response, 405, "invalid_request")


@pytest.mark.parametrize("path", ["/token", "/oauth2/revoke", "/oauth2/introspect"])
async def test_every_oauth_endpoint_refuses_in_the_same_form(client: httpx.AsyncClient, path: str) -> None:
    for method in ("GET", "PROPFIND"):
        response = await client.request(method, f"{path}/")
        assert_oauth_error(response, 405, "invalid_request")
        assert response.headers["allow"] == "POST"
    too_large = await client.post(path, content=b"a" * (MAX_FORM_BYTES + 1), headers={"Content-Type": FORM})
    assert_oauth_error(too_large, 413, "invalid_request")


@pytest.mark.parametrize("path", ["/token", "/oauth2/revoke", "/oauth2/introspect"])
async def test_a_form_that_does_not_come_is_408(settings: AuthSettings, path: str) -> None:
    async def never_ending() -> AsyncIterator[bytes]:
        yield b"token="
        await asyncio.Event().wait()

    async with running(create_app(settings.model_copy(update={"body_timeout_seconds": 0.05}))) as client:
        response = await client.post(path, content=never_ending(), headers={"Content-Type": FORM})
    assert_oauth_error(response, 408, "invalid_request")
    assert response.headers["connection"] == "close"


async def test_a_path_below_the_oauth_endpoints_is_not_found_in_the_same_form(client: httpx.AsyncClient) -> None:
    assert_oauth_error(await client.post("/oauth2/authorize"), 404, "invalid_request")
    elsewhere = await client.post("/tokens")
    assert (elsewhere.status_code, elsewhere.headers["content-type"]) == (404, "application/problem+json")


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (RuntimeError("what only the log may tell"), 500, "server_error"),
        (Conflict("told"), 409, "invalid_request"),
        (ServiceUnavailable("told", retry_after_seconds=7), 503, "temporarily_unavailable"),
    ],
)
async def test_what_breaks_behind_an_oauth_endpoint_is_told_in_the_same_form(
    settings: AuthSettings, error: Exception, status: int, code: str
) -> None:
    class BrokenGrants(Grants):
        def __init__(self) -> None:
            """Need nothing."""

        async def password(self, *_: object, **__: object) -> NoReturn:
            raise error

    async def introspect() -> NoReturn:
        raise error

    app = create_app(settings)
    app.dependency_overrides |= {get_grants: BrokenGrants, authenticate_introspector: introspect}
    async with running(app) as client:
        for path in ("/token", "/token/", "/oauth2/introspect"):
            response = await client.post(path, data=GOOD)
            assert_oauth_error(response, status, code)
            assert "only the log" not in response.text
            assert response.headers.get("retry-after") == ("7" if status == 503 else None)
        metrics = (await client.get("/metrics")).text
    outcome = "temporarily_unavailable" if status == 503 else "error"
    assert f'auth_token_requests_total{{grant_type="password",outcome="{outcome}"}} 2.0' in metrics


async def test_no_origin_may_read_the_answer(client: httpx.AsyncClient) -> None:
    response = await client.post("/token", data=GOOD, headers={"Origin": "https://elsewhere.example"})
    assert not [name for name in response.headers if name.startswith("access-control-")]


# Clients


@pytest.mark.parametrize("credentials", ["pinhole-web:", ":", "pinhole%2Dweb:"])
async def test_the_public_client_may_name_itself_with_basic(client: httpx.AsyncClient, credentials: str) -> None:
    response = await client.post("/token", data=GOOD, headers=basic(credentials))
    assert response.status_code == 200
    assert (await verified(client, response.json()["access_token"])).client_id == "pinhole-web"


async def test_the_public_client_may_name_itself_in_the_form(client: httpx.AsyncClient) -> None:
    assert (await sign_in(client, client_id="pinhole-web", client_secret="")).status_code == 200


@pytest.mark.parametrize(
    "authorization",
    [
        *(basic(credentials)["Authorization"] for credentials in ["stranger:", "stranger:x", "pinhole-web:x", ":x"]),
        "Basic",
        "Basic !",
        "Basic é",
        "basic cGluaG9sZS13ZWI=",
        "Basic /w==",
    ],
)
async def test_basic_credentials_that_are_no_clients_are_401(
    client: httpx.AsyncClient, users: FakeUsers, authorization: str
) -> None:
    response = await client.post("/token", data=GOOD, headers={b"Authorization": authorization.encode()})
    assert_oauth_error(response, 401, "invalid_client")
    assert not users.asked


@pytest.mark.parametrize("form", [{"client_id": "stranger"}, {"client_id": "pinhole-web", "client_secret": "x"}])
async def test_a_form_of_no_client_is_401(client: httpx.AsyncClient, form: dict[str, str]) -> None:
    assert_oauth_error(await sign_in(client, **form), 401, "invalid_client")


async def test_two_client_ids_are_an_invalid_request(client: httpx.AsyncClient) -> None:
    form = GOOD | {"client_id": "stranger"}
    response = await client.post("/token", data=form, headers=basic("pinhole-web:"))
    assert_oauth_error(response, 400, "invalid_request")


async def test_two_client_secrets_are_an_invalid_request(client: httpx.AsyncClient) -> None:
    form = GOOD | {"client_secret": "x"}
    response = await client.post("/token", data=form, headers=basic("pinhole-web:x"))
    assert_oauth_error(response, 400, "invalid_request")


async def test_a_bearer_token_is_no_client_authentication(client: httpx.AsyncClient) -> None:
    response = await client.post("/token", data=GOOD, headers={"Authorization": "Bearer x"})
    assert response.status_code == 200


# Users in trouble


async def test_users_down_is_503_and_nothing_is_used_up(settings: AuthSettings, users: FakeUsers) -> None:
    async with running(create_app(settings)) as client:
        token = await signed_in(client)
    away = settings.model_copy(update={"users_url": "http://127.0.0.1:9"})
    async with running(create_app(away)) as client:
        for response in (await sign_in(client), await refresh(client, token)):
            assert_oauth_error(response, 503, "temporarily_unavailable")
            assert int(response.headers["retry-after"]) > 0
    async with running(create_app(settings)) as client:
        assert (await refresh(client, token)).status_code == 200


async def test_users_too_slow_is_503(settings: AuthSettings, users: FakeUsers) -> None:
    async with running(create_app(settings.model_copy(update={"users_timeout_seconds": 0.1}))) as client:
        users.may_answer.clear()
        response = await sign_in(client)
    assert_oauth_error(response, 503, "temporarily_unavailable")
    assert int(response.headers["retry-after"]) > 0


@pytest.mark.parametrize(
    ("told", "passed_on"), [("7", 7), ("86400", 60), ("Wed, 21 Oct 2026 07:28:00 GMT", 2), ("-1", 2), (None, 2)]
)
async def test_users_overloaded_is_passed_on_with_its_delay(
    client: httpx.AsyncClient, users: FakeUsers, told: str | None, passed_on: int
) -> None:
    users.answer = Answer(503, b"", {"Retry-After": told} if told else {})
    response = await sign_in(client)
    assert_oauth_error(response, 503, "temporarily_unavailable")
    assert response.headers["retry-after"] == str(passed_on)


async def test_requests_from_one_address_are_limited_before_anything_is_read(
    settings: AuthSettings, users: FakeUsers
) -> None:
    async with running(create_app(settings.model_copy(update={"token_requests_per_minute": 2}))) as client:
        token = await signed_in(client)
        assert (await refresh(client, token)).status_code == 200
        users.asked.clear()
        for response in (await refresh(client, token), await sign_in(client), await client.post("/token")):
            assert_oauth_error(response, 429, "slow_down")
            assert 1 <= int(response.headers["retry-after"]) <= 60
        assert not users.asked


@pytest.mark.parametrize("path", ["/oauth2/revoke", "/oauth2/introspect"])
async def test_what_proves_nothing_is_limited_as_requests_for_tokens_are(
    settings: AuthSettings, users: FakeUsers, path: str
) -> None:
    async with running(create_app(settings.model_copy(update={"token_requests_per_minute": 5}))) as client:
        secret = (await register(client))["secret"]  # asks for a token
        proven, ada = basic(f"nightly:{secret}"), bearer((await sign_in(client)).json())

        async def call(headers: Mapping[str, str]) -> httpx.Response:
            return await client.post(path, data={"token": "x"}, headers=headers)

        assert {(await call(proven)).status_code for _ in range(6)} == {200}
        if path == "/oauth2/introspect":  # she may not ask, and is known all the same
            assert {(await call(ada)).status_code for _ in range(6)} == {403}
        for headers in (basic("nightly:wrong"), basic("nobody:wrong"), {"Authorization": "Bearer x"}):
            await call(headers)
        for headers in ({}, basic("nightly:wrong"), proven):
            response = await call(headers)
            assert_oauth_error(response, 429, "slow_down")
            assert 1 <= int(response.headers["retry-after"]) <= 60


@pytest.mark.parametrize(("told", "passed_on"), [("30", 30), ("900", 900), ("86400", 3600)])
async def test_too_many_attempts_at_passwords_are_429_with_the_time_to_wait(
    client: httpx.AsyncClient, users: FakeUsers, told: str, passed_on: int
) -> None:
    users.answer = Answer(429, b"", {"Retry-After": told})
    for name in ("ada", "nobody"):
        response = await sign_in(client, name)
        assert_oauth_error(response, 429, "slow_down")
        assert response.headers["retry-after"] == str(passed_on)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(500),
        Answer(401),
        Answer(403),
        Answer(302, b"", {"Location": "/elsewhere"}),
        Answer(204),
        Answer(200, b""),
        Answer(200, b"<html>"),
        Answer(200, b"null"),
        Answer(200, b"{}"),
        Answer(200, b'{"account": {}}'),
        Answer(200, b'{"account": {"id": "1", "roles": ["user"]}}'),
        Answer(200, b'{"account": {"id": "01890a5d-ac96-774b-bcce-b302099a8057", "roles": "admin"}}'),
        Answer(200, b'{"account": {"id": "01890a5d-ac96-774b-bcce-b302099a8057"}}'),
    ],
)
async def test_an_answer_of_users_that_means_nothing_is_503(
    client: httpx.AsyncClient, users: FakeUsers, answer: Answer
) -> None:
    token = await signed_in(client)
    users.answer = answer
    assert_oauth_error(await sign_in(client), 503, "temporarily_unavailable")
    assert_oauth_error(await refresh(client, token), 503, "temporarily_unavailable")
    users.answer = None
    assert (await refresh(client, token)).status_code == 200


async def test_the_database_is_not_locked_while_users_is_asked(settings: AuthSettings, users: FakeUsers) -> None:
    async with running(create_app(settings)) as slow:
        for request in (sign_in(slow), refresh(slow, await signed_in(slow))):
            users.may_answer.clear()
            users.was_asked.clear()
            waiting = asyncio.create_task(request)
            assert await asyncio.to_thread(users.was_asked.wait, 10)
            async with asyncio.timeout(30), stored(settings) as transaction:
                await transaction.execute(update(SessionRow).values(last_used_at=utc_now()))
            users.may_answer.set()
            assert (await waiting).status_code == 200
