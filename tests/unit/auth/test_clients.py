"""Registering clients: who may, what is refused, and what a change takes away."""

import logging
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio
from auth_service.main import create_app
from auth_service.tables import ClientRow
from servicekit.auth import SCOPES
from servicekit.logs import AUDIT
from sqlalchemy import select

from tests.asgi import running
from tests.unit.auth.conftest import auth_settings
from tests.unit.auth.fake_users import ADA, FakeUsers
from tests.unit.auth.requests import (
    ask_as_client,
    assert_oauth_error,
    basic,
    bearer,
    refresh,
    register,
    sign_in,
    stored,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGE = {"grant_types": ["password", "refresh_token"], "first_party": True, "token_endpoint_auth_method": "none"}


@pytest.fixture(autouse=True)
def _fresh_users(users: FakeUsers) -> None:
    """Forget what the last test made of users; the service under test stays."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(shared_database_url: str, users_server: FakeUsers) -> AsyncIterator[httpx.AsyncClient]:
    users_server.reset()
    async with running(create_app(auth_settings(shared_database_url, users_server))) as client:
        yield client


async def root(client: httpx.AsyncClient, **form: str) -> dict[str, str]:
    return bearer((await sign_in(client, "root", **form)).json())


def new_id() -> str:
    return f"client-{uuid4().hex}"


def assert_problem(response: httpx.Response, status: int, slug: str | None = None) -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    if slug is not None:
        assert response.json()["type"] == f"urn:pinhole:problem:{slug}"


async def test_a_registered_client_gets_its_secret_once_and_tokens_for_it(client: httpx.AsyncClient) -> None:
    client_id = new_id()
    body = {"id": client_id, "name": "Nightly report", "scopes": ["users:read"]}
    response = await client.post("/clients", json=body, headers=await root(client))
    assert response.headers["cache-control"] == "no-store"
    registered = response.json()
    secret = registered.pop("secret")
    assert len(secret) == 43
    read = await client.get(f"/clients/{client_id}", headers=await root(client))
    assert read.json() == registered
    assert secret not in read.text
    assert (await ask_as_client(client, f"{client_id}:{secret}")).status_code == 200


async def test_of_a_secret_the_hash_alone_is_stored(tmp_path: Any, users: FakeUsers) -> None:
    settings = auth_settings(f"sqlite+aiosqlite:///{tmp_path}/auth.db", users)
    async with running(create_app(settings)) as client:
        secret = (await register(client))["secret"]
        async with stored(settings) as transaction:
            (row,) = await transaction.scalars(select(ClientRow))
            assert [len(kept.hash) for kept in row.secrets] == [32]
    assert not [path for path in tmp_path.iterdir() if secret.encode() in path.read_bytes()]


async def test_clients_are_listed_page_by_page(client: httpx.AsyncClient) -> None:
    ids = sorted([(await register(client, new_id()))["id"] for _ in range(3)])
    headers, after, seen = await root(client), "", []
    while True:
        response = await client.get("/clients", params={"limit": 2, "after": after}, headers=headers)
        page = [found["id"] for found in response.json()["clients"]]
        if not page:
            break
        assert len(page) <= 2
        seen += page
        after = page[-1]
    assert seen == sorted(seen)
    assert set(ids) <= set(seen)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("POST", ""),
        ("GET", "/x"),
        ("PATCH", "/x"),
        ("DELETE", "/x"),
        ("POST", "/x/secrets"),
        ("DELETE", f"/x/secrets/{ADA}"),
    ],
)
async def test_clients_are_for_administrators(client: httpx.AsyncClient, method: str, path: str) -> None:
    body = {"id": "x", "name": "x", "scopes": ["profile"]} if path == "" else {}
    ada = bearer((await sign_in(client)).json())
    assert_problem(await client.request(method, f"/clients{path}", json=body), 401)
    assert_problem(await client.request(method, f"/clients{path}", json=body, headers=ada), 403)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/secrets"), ("DELETE", f"/secrets/{ADA}")],
)
async def test_a_client_that_is_not_there_is_404(client: httpx.AsyncClient, method: str, path: str) -> None:
    response = await client.request(method, f"/clients/nobody{path}", json={}, headers=await root(client))
    assert_problem(response, 404, "client-not-found")


@pytest.mark.parametrize(
    "fields",
    [
        {"id": ADA},
        {"id": ADA.replace("-", "")},
        {"id": "Up"},
        {"id": ""},
        {"id": "x" * 65},
        {"name": ""},
        {"name": "a\nb"},
        {"scopes": []},
        {"scopes": ["internal:accounts"]},
        {"scopes": "profile"},
        {"grant_types": []},
        {"grant_types": ["authorization_code"]},
        {"grant_types": ["password"]},
        {"token_endpoint_auth_method": "none"},
        {"first_party": "yes"},
        {"secret": "my own"},
    ],
)
async def test_what_is_no_client_is_422(client: httpx.AsyncClient, fields: dict[str, Any]) -> None:
    body = {"id": new_id(), "name": "x", "scopes": ["profile"], **fields}
    response = await client.post("/clients", json=body, headers=await root(client))
    assert_problem(response, 422)
    assert response.json()["errors"]


@pytest.mark.parametrize("path", ["/clients/%00", "/clients/Up", "/clients?after=%00", "/clients?limit=0"])
async def test_what_is_no_id_is_422(client: httpx.AsyncClient, path: str) -> None:
    assert_problem(await client.get(path, headers=await root(client)), 422)


async def test_a_taken_id_is_409(client: httpx.AsyncClient) -> None:
    client_id = (await register(client, new_id()))["id"]
    for taken in (client_id, "pinhole-web", "auth"):
        body = {"id": taken, "name": "x", "scopes": ["profile"]}
        assert_problem(await client.post("/clients", json=body, headers=await root(client)), 409, "client-exists")


async def test_a_large_body_is_413(client: httpx.AsyncClient) -> None:
    response = await client.post("/clients", content=b" " * 70_000, headers=await root(client))
    assert_problem(response, 413)


async def test_nobody_reaches_further_by_a_client_than_by_themselves(client: httpx.AsyncClient) -> None:
    mighty = await register(client, new_id(), scopes=["users:write"])
    weak = (await register(client, new_id(), scopes=["users:read"]))["id"]
    headers = await root(client, scope="clients:admin users:read")
    body = {"id": new_id(), "name": "x", "scopes": ["users:read", "users:write"]}
    for response in (
        await client.post("/clients", json=body, headers=headers),
        await client.patch(f"/clients/{weak}", json={"scopes": ["users:write"]}, headers=headers),
        await client.patch(f"/clients/{mighty['id']}", json={"name": "y"}, headers=headers),
        await client.post(f"/clients/{mighty['id']}/secrets", headers=headers),
        await client.delete(f"/clients/{mighty['id']}/secrets/{mighty['secrets'][0]['id']}", headers=headers),
        await client.delete(f"/clients/{mighty['id']}", headers=headers),
    ):
        assert_problem(response, 403, "scope-exceeded")
    assert (await client.patch(f"/clients/{weak}", json={"name": "y"}, headers=headers)).json()["name"] == "y"


async def test_two_secrets_work_at_once_and_a_third_has_to_wait(client: httpx.AsyncClient) -> None:
    registered, headers = await register(client, new_id()), await root(client)
    path = f"/clients/{registered['id']}"
    first = await ask_as_client(client, f"{registered['id']}:{registered['secret']}")
    response = await client.post(f"{path}/secrets", headers=headers)
    assert response.status_code == 201
    assert response.headers["cache-control"] == "no-store"
    second = await ask_as_client(client, f"{registered['id']}:{response.json()['secret']}")
    assert (first.status_code, second.status_code) == (200, 200)
    old, new = (await client.get(path, headers=headers)).json()["secrets"]
    lasts = datetime.fromisoformat(old["expires_at"]) - datetime.fromisoformat(new["created_at"])
    assert abs(lasts - timedelta(days=1)) < timedelta(seconds=5)
    assert (old["id"], new["expires_at"]) == (registered["secrets"][0]["id"], None)
    assert old["expires_at"] is not None
    assert_problem(await client.post(f"{path}/secrets", headers=headers), 409, "too-many-secrets")
    await client.delete(f"{path}/secrets/{old['id']}", headers=headers)
    again = await ask_as_client(client, f"{registered['id']}:{registered['secret']}")
    assert_oauth_error(again, 401, "invalid_client")
    assert (await client.post(f"{path}/secrets", headers=headers)).status_code == 201


async def test_an_old_secret_may_end_at_once_and_its_time_is_kept(client: httpx.AsyncClient) -> None:
    registered, headers = await register(client, new_id()), await root(client)
    path = f"/clients/{registered['id']}/secrets"
    for no_time in (-1, 0.5, True, "0", 90 * 24 * 3600 + 1):
        assert_problem(await client.post(path, json={"old_expires_in_seconds": no_time}, headers=headers), 422)
    new = (await client.post(path, json={"old_expires_in_seconds": 0.0}, headers=headers)).json()
    old = await ask_as_client(client, f"{registered['id']}:{registered['secret']}")
    assert_oauth_error(old, 401, "invalid_client")
    assert (await ask_as_client(client, f"{registered['id']}:{new['secret']}")).status_code == 200
    shown = (await client.get(f"/clients/{registered['id']}", headers=headers)).json()["secrets"]
    assert [secret["id"] for secret in shown] == [new["id"]]
    third = await client.post(path, headers=headers)
    assert third.status_code == 201, "a secret that works no more takes no place"


async def test_the_end_of_a_secret_may_come_sooner_and_never_later(client: httpx.AsyncClient) -> None:
    registered, headers = await register(client, new_id()), await root(client)
    client_path = f"/clients/{registered['id']}"
    ends = []
    for seconds in (3600, 7200, 0):
        new = (
            await client.post(f"{client_path}/secrets", json={"old_expires_in_seconds": seconds}, headers=headers)
        ).json()
        if seconds:  # the new one is given up, so that the old one is there alone
            assert (await client.delete(f"{client_path}/secrets/{new['id']}", headers=headers)).status_code == 204
            (old,) = (await client.get(client_path, headers=headers)).json()["secrets"]
            ends.append((old["id"], old["expires_at"]))
    assert ends[0] == ends[1]
    assert ends[0][0] == registered["secrets"][0]["id"]
    old_one = await ask_as_client(client, f"{registered['id']}:{registered['secret']}")
    assert_oauth_error(old_one, 401, "invalid_client")


async def test_an_ended_secret_takes_its_tokens_along_and_no_others(client: httpx.AsyncClient) -> None:
    registered, headers = await register(client, new_id(), scopes=["clients:admin"]), await root(client)
    path = f"/clients/{registered['id']}/secrets"
    new = (await client.post(path, headers=headers)).json()
    tokens = [
        (await ask_as_client(client, f"{registered['id']}:{secret}")).json()
        for secret in (registered["secret"], new["secret"])
    ]
    assert (await client.delete(f"{path}/{registered['secrets'][0]['id']}", headers=headers)).status_code == 204
    assert [(await client.get("/clients", headers=bearer(token))).status_code for token in tokens] == [401, 200]
    assert_problem(
        await client.delete(f"{path}/{registered['secrets'][0]['id']}", headers=headers), 404, "secret-not-found"
    )


async def test_a_deleted_client_takes_the_sessions_of_its_users_along(client: httpx.AsyncClient) -> None:
    page = (await register(client, new_id(), scopes=["profile"], **PAGE))["id"]
    tokens = (await sign_in(client, client_id=page)).json()
    assert (await client.get("/sessions", headers=bearer(tokens))).json()["sessions"][0]["client_id"] == page
    assert (await client.delete(f"/clients/{page}", headers=await root(client))).status_code == 204
    assert (await client.get("/sessions", headers=bearer(tokens))).status_code == 401
    assert_oauth_error(await refresh(client, tokens["refresh_token"], client_id=page), 401, "invalid_client")


@pytest.mark.parametrize(
    ("changes", "is_ended"),
    [
        ({"name": "Another name"}, False),
        ({"scopes": ["inference:predict", "profile", "users:read"]}, False),
        ({"scopes": ["users:read"]}, True),
        ({"grant_types": ["password"]}, True),
        ({"token_endpoint_auth_method": "client_secret_post"}, True),
    ],
)
async def test_a_change_ends_sessions_where_it_takes_something_away(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture, changes: dict[str, Any], is_ended: bool
) -> None:
    caplog.set_level(logging.INFO, logger=AUDIT)
    page = (await register(client, new_id(), scopes=["profile", "users:read"], **PAGE))["id"]
    tokens = (await sign_in(client, client_id=page)).json()
    response = await client.patch(f"/clients/{page}", json=changes, headers=await root(client))
    assert response.status_code == 200, response.text
    assert response.json() | changes == response.json()
    logged = [line for line in caplog.messages if line.startswith("event='client_changed' audit=True")]
    assert len(logged) == 1
    assert f"client_id='{page}'" in logged[0]
    status = 401 if is_ended else 200
    assert (await client.get("/sessions", headers=bearer(tokens))).status_code == status


@pytest.mark.parametrize("changes", [{"grant_types": ["client_credentials"]}, {"first_party": False}])
async def test_a_change_that_contradicts_the_rest_is_422(client: httpx.AsyncClient, changes: dict[str, Any]) -> None:
    page = (await register(client, new_id(), scopes=["profile"], **PAGE))["id"]
    assert_problem(await client.patch(f"/clients/{page}", json=changes, headers=await root(client)), 422)


async def test_a_client_without_secrets_gets_none(client: httpx.AsyncClient) -> None:
    page = await register(client, new_id(), scopes=["profile"], **PAGE)
    assert page["secret"] is None
    assert_problem(await client.post(f"/clients/{page['id']}/secrets", headers=await root(client)), 409, "no-secrets")


async def test_a_user_gets_no_more_through_a_client_than_the_client_may_have(client: httpx.AsyncClient) -> None:
    page = (await register(client, new_id(), scopes=["profile", "inference:admin"], **PAGE))["id"]
    assert (await sign_in(client, client_id=page)).json()["scope"] == "profile"
    assert (await sign_in(client, "root", client_id=page)).json()["scope"] == "inference:admin profile"


async def test_a_client_without_the_refresh_grant_gets_no_refresh_token(client: httpx.AsyncClient) -> None:
    page = (await register(client, new_id(), scopes=["profile"], **PAGE | {"grant_types": ["password"]}))["id"]
    assert "refresh_token" not in (await sign_in(client, client_id=page)).json()


async def test_an_administrator_may_do_all_of_it(client: httpx.AsyncClient) -> None:
    registered = await register(client, new_id(), scopes=list(SCOPES))
    assert set(registered["scopes"]) == set(SCOPES)
    assert (
        await client.get("/clients", headers=basic(f"{registered['id']}:{registered['secret']}"))
    ).status_code == 401
