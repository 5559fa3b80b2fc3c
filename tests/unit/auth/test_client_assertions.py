"""Clients that sign: what of an assertion is checked, and the tokens of ServiceAccounts."""

import asyncio
import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from auth_service.client_authentication import ASSERTION_TYPE
from auth_service.clients import KeysUri
from auth_service.main import create_app
from auth_service.settings import AuthSettings
from auth_service.tables import ClientAssertionRow, ClientRow
from jose import jwt
from pydantic import TypeAdapter, ValidationError
from servicekit.logs import AUDIT
from servicekit.tokens import SigningKey
from sqlalchemy import select

from tests.asgi import running
from tests.http_server import QuietHandler, serving
from tests.issuer import ISSUER
from tests.unit.auth.requests import assert_oauth_error, basic, bearer, register, sign_in, stored, verified

KEY, NEW_KEY, RSA_KEY = SigningKey.generate("ES256"), SigningKey.generate("ES256"), SigningKey.generate("RS256")
PROVES_BY_KEY = {"token_endpoint_auth_method": "private_key_jwt"}
CLUSTER = "https://kubernetes.default.svc.cluster.local"
SUBJECT = "system:serviceaccount:reports:nightly"


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    document = {
        "iss": "nightly",
        "sub": "nightly",
        "aud": ISSUER,
        "jti": uuid4().hex,
        "iat": now,
        "exp": now + 60,
    } | changes
    return {name: value for name, value in document.items() if value is not None}


def sign(document: dict[str, Any], key: SigningKey = KEY, **header: Any) -> str:
    """Sign as client libraries do: `typ` is JWT, and `kid` is there."""
    header = {"kid": key.key_id, "typ": "JWT"} | header
    token: str = jwt.encode(
        document,
        key.pem,
        algorithm=key.algorithm,
        headers={name: value for name, value in header.items() if value is not None},
    )
    return token


async def ask(client: httpx.AsyncClient, assertion: str, **form: str) -> httpx.Response:
    form = {"grant_type": "client_credentials", "client_assertion_type": ASSERTION_TYPE, **form}
    return await client.post("/token", data={"client_assertion": assertion, **form})


async def register_key(client: httpx.AsyncClient, *keys: SigningKey, **fields: Any) -> dict[str, Any]:
    jwks = [key.public_document for key in keys or (KEY,)]
    return await register(client, **PROVES_BY_KEY, **({"jwks": jwks} | fields))


@pytest.mark.parametrize("audience", [ISSUER, f"{ISSUER}/token", [ISSUER, f"{ISSUER}/token"]])
@pytest.mark.parametrize("form", [{}, {"client_id": "nightly"}])
async def test_a_client_gets_a_token_for_its_signature(
    client: httpx.AsyncClient, audience: Any, form: dict[str, str]
) -> None:
    assert (await register_key(client))["secret"] is None
    response = await ask(client, sign(claims(aud=audience)), **form)
    assert response.status_code == 200, response.text
    assert (await verified(client, response.json()["access_token"])).subject == "nightly"


@pytest.mark.parametrize("header", [{"typ": "client-authentication+jwt"}, {"kid": None}])
async def test_a_header_may_say_less_or_more(client: httpx.AsyncClient, header: dict[str, Any]) -> None:
    await register_key(client)
    assert (await ask(client, sign(claims(), **header))).status_code == 200


async def test_without_a_key_id_the_only_key_of_the_algorithm_counts(client: httpx.AsyncClient) -> None:
    await register_key(client, KEY, NEW_KEY, RSA_KEY)
    assert (await ask(client, sign(claims(), RSA_KEY, kid=None))).status_code == 200
    assert_oauth_error(await ask(client, sign(claims(), KEY, kid=None)), 401, "invalid_client")


NOW = int(time.time())


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "other"},
        {"sub": "other", "iss": "other"},
        {"sub": "pinhole-web", "iss": "pinhole-web"},
        {"sub": "\x00", "iss": "\x00"},
        {"sub": None},
        {"sub": ["nightly"], "iss": ["nightly"]},
        {"aud": "https://elsewhere.example"},
        {"aud": [ISSUER, "https://elsewhere.example"]},
        {"aud": []},
        {"aud": None},
        {"aud": {"a": ISSUER}},
        {"exp": NOW - 1},
        {"exp": None},
        {"exp": True},
        {"exp": str(NOW + 60)},
        {"exp": NOW + 86400},
        {"exp": 2**70},
        {"nbf": NOW + 6 * 3600},
        {"iat": NOW + 6 * 3600},
        {"iat": "now"},
        {"jti": None},
        {"jti": ""},
        {"jti": 1},
        {"jti": "x" * 321},
    ],
    ids=[str(number) for number in range(24)],
)
async def test_an_assertion_of_which_a_claim_is_wrong_is_401(
    client: httpx.AsyncClient, changes: dict[str, Any]
) -> None:
    await register_key(client)
    assert_oauth_error(await ask(client, sign(claims(**changes))), 401, "invalid_client")


async def test_a_used_assertion_is_known_until_no_replica_takes_it_any_more(
    client: httpx.AsyncClient, settings: AuthSettings
) -> None:
    """The clock of one of them may be behind."""
    await register_key(client)
    assertion = sign(claims())
    assert (await ask(client, assertion)).status_code == 200
    for earlier, is_known in ((61, True), (61, False)):
        async with stored(settings) as transaction:
            for used in await transaction.scalars(select(ClientAssertionRow)):
                used.expires_at -= timedelta(seconds=earlier)
        assert (await ask(client, sign(claims()))).status_code == 200
        assert (await ask(client, assertion)).status_code == (401 if is_known else 200)


@pytest.mark.parametrize(
    "header", [{"typ": "at+jwt"}, {"kid": "other"}, {"crit": ["exp"]}, {"jku": ISSUER}, {"jwk": KEY.public_document}]
)
async def test_an_assertion_of_which_the_header_is_wrong_is_401(
    client: httpx.AsyncClient, header: dict[str, Any]
) -> None:
    await register_key(client)
    assert_oauth_error(await ask(client, sign(claims(), **header)), 401, "invalid_client")


@pytest.mark.parametrize("assertion", ["x", "a.b.c", "é", "x" * 9000, "e30.e30."])
async def test_what_is_no_assertion_is_401(client: httpx.AsyncClient, assertion: str) -> None:
    assert_oauth_error(await ask(client, assertion), 401, "invalid_client")


async def test_a_signature_of_another_key_is_401(client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger=AUDIT)
    await register_key(client)
    assert_oauth_error(await ask(client, sign(claims(), NEW_KEY, kid=KEY.key_id)), 401, "invalid_client")
    assert_oauth_error(await ask(client, sign(claims(), RSA_KEY, kid=KEY.key_id)), 401, "invalid_client")
    assert len([line for line in caplog.messages if "event='client_assertion_refused' audit=True" in line]) == 2


async def test_an_access_token_is_no_assertion(client: httpx.AsyncClient) -> None:
    await register_key(client)
    token = (await ask(client, sign(claims()))).json()["access_token"]
    assert_oauth_error(await ask(client, token), 401, "invalid_client")


async def test_an_assertion_is_taken_once_however_many_send_it_at_once(client: httpx.AsyncClient) -> None:
    await register_key(client)
    assertion = sign(claims())
    answers = await asyncio.gather(*(ask(client, assertion) for _ in range(10)))
    assert sorted(answer.status_code for answer in answers) == [200, *[401] * 9]


async def test_two_ways_at_once_or_half_of_one_are_an_invalid_request(client: httpx.AsyncClient) -> None:
    form = {"grant_type": "client_credentials"}
    signed = {"client_assertion": sign(claims()), "client_assertion_type": ASSERTION_TYPE}
    for body, headers in (
        (form | signed, basic("nightly:x")),
        (form | signed | {"client_secret": "x"}, {}),
        (form | {"client_assertion": "x"}, {}),
        (form | {"client_assertion_type": ASSERTION_TYPE}, {}),
        (form | signed | {"client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:saml2-bearer"}, {}),
    ):
        assert_oauth_error(await client.post("/token", data=body, headers=headers), 400, "invalid_request")


async def test_another_client_id_beside_the_assertion_is_401(client: httpx.AsyncClient) -> None:
    await register_key(client)
    assert_oauth_error(await ask(client, sign(claims()), client_id="pinhole-web"), 401, "invalid_client")


async def test_a_key_that_is_taken_away_takes_its_tokens_along_and_an_added_one_does_not(
    client: httpx.AsyncClient,
) -> None:
    await register_key(client, scopes=["clients:admin"])
    root = bearer((await sign_in(client, "root")).json())
    token = (await ask(client, sign(claims()))).json()
    both = [KEY.public_document, NEW_KEY.public_document]
    for keys, status in ((both, 200), (both[1:], 401)):
        changed = await client.patch("/clients/nightly", json={"jwks": keys}, headers=root)
        assert changed.status_code == 200, changed.text
        assert (await client.get("/clients", headers=bearer(token))).status_code == status
    assert_oauth_error(await ask(client, sign(claims())), 401, "invalid_client")
    assert (await ask(client, sign(claims(), NEW_KEY))).status_code == 200


async def test_an_assertion_counts_as_used_for_its_own_client_alone(client: httpx.AsyncClient) -> None:
    await register_key(client)
    root = bearer((await sign_in(client, "root")).json())
    other = {"id": "other", "name": "x", "scopes": ["users:read"], "jwks": [NEW_KEY.public_document]}
    assert (await client.post("/clients", json=other | PROVES_BY_KEY, headers=root)).status_code == 201
    assert (await ask(client, sign(claims(jti="1")))).status_code == 200
    others = claims(jti="1", iss="other", sub="other")
    assert (await ask(client, sign(others, NEW_KEY))).status_code == 200
    assert_oauth_error(await ask(client, sign(others, NEW_KEY)), 401, "invalid_client")


async def test_a_client_may_go_from_a_secret_to_keys_and_back_and_nobody_elses_session_ends(
    client: httpx.AsyncClient,
) -> None:
    secret = (await register(client))["secret"]
    ada, root = bearer((await sign_in(client)).json()), bearer((await sign_in(client, "root")).json())
    keys = {"token_endpoint_auth_method": "private_key_jwt", "jwks": [KEY.public_document]}
    back = {"token_endpoint_auth_method": "client_secret_basic", "jwks": None}
    for changes in (keys, back):
        assert (await client.patch("/clients/nightly", json=changes, headers=root)).status_code == 200
        assert (await client.get("/sessions", headers=ada)).status_code == 200
        old = {"grant_type": "client_credentials"}
        response = await client.post("/token", data=old, headers=basic(f"nightly:{secret}"))
        assert_oauth_error(response, 401, "invalid_client")


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"jwks": []},
        {"jwks": [{"kty": "oct", "k": "AAAA"}]},
        {"jwks": [{"kty": ["RSA"]}]},
        {"jwks": [KEY.public_document | {"d": "AAAA"}]},
        {"jwks": [KEY.public_document | {"crv": "P-384"}]},
        {"jwks": [KEY.public_document | {"x": "é"}]},
        {"jwks": [KEY.public_document | {"x": KEY.public_document["x"] + "\n"}]},
        {"jwks": [RSA_KEY.public_document | {"n": RSA_KEY.public_document["n"] + "A" * 2732}]},
        {"jwks": [KEY.public_document] * 11},
        {"jwks": [KEY.public_document], "service_account": "a:b"},
        {"jwks_uri": "http://elsewhere.example/jwks.json"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": "https://pinhole.example/\x00"},
        {"service_account": "system:serviceaccount:a:b"},
        {"service_account": "a:b", "token_endpoint_auth_method": "client_secret_basic"},
    ],
    ids=[str(number) for number in range(16)],
)
async def test_what_is_no_key_is_422(client: httpx.AsyncClient, fields: dict[str, Any]) -> None:
    root = bearer((await sign_in(client, "root")).json())
    body = {"id": "nightly", "name": "x", "scopes": ["users:read"], **PROVES_BY_KEY, **fields}
    response = await client.post("/clients", json=body, headers=root)
    assert response.status_code == 422, response.text
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "url",
    [
        "https://",
        "https://\x00",
        "https://\n",
        "https://\x7f/",
        "https://a/\t",
        "https://[",
        "https://%00/",
        "https://a\\b/",
        "https://a@/keys",
        "https://:443/keys",
        "https://?keys",
        "https://a:99999999/x",
        "https://a:0/x",
        "http://localhost:x/",
        "http://localhost:80@elsewhere.example/keys",
        "https://faß.example/keys",
        "https://a/two words",
    ],
)
def test_what_is_no_address_of_keys_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="expected an"):
        TypeAdapter(KeysUri).validate_python(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://keys.example",
        "https://keys.example:8443/a/b?c=%20#d",
        "https://[2001:db8::1]/keys",
        "http://localhost/keys",
        "http://[::1]:8000/keys",
    ],
)
def test_https_and_this_machine_are_addresses_of_keys(url: str) -> None:
    assert TypeAdapter(KeysUri).validate_python(url) == url


@pytest.mark.parametrize("key_id", ["\ud800", "a\nb", "\x00", "", "a" * 256])
async def test_a_key_id_that_cannot_be_shown_is_422(client: httpx.AsyncClient, key_id: str) -> None:
    root = bearer((await sign_in(client, "root")).json())
    body = {"id": "nightly", "name": "x", "scopes": ["users:read"], **PROVES_BY_KEY}
    content = json.dumps(body | {"jwks": [KEY.public_document | {"kid": key_id}]})
    response = await client.post("/clients", content=content, headers=root | {"Content-Type": "application/json"})
    assert response.status_code == 422, response.text
    assert response.json()["errors"][0]["field"] == "body.jwks"
    assert (await client.get("/clients", headers=root)).status_code == 200


async def test_members_that_are_not_of_the_keys_kind_are_not_kept(client: httpx.AsyncClient) -> None:
    document = RSA_KEY.public_document | {"crv": "\x00", "x": {"any": "thing"}}
    assert (await register_key(client, jwks=[document]))["jwks"] == [RSA_KEY.public_document]
    assert (await ask(client, sign(claims(), RSA_KEY))).status_code == 200


async def test_a_key_of_before_there_were_rules_for_it_is_still_read(
    client: httpx.AsyncClient, settings: AuthSettings
) -> None:
    await register_key(client)
    key = KEY.public_document | {"kid": "a" * 300}
    async with stored(settings) as transaction:
        (await transaction.get_one(ClientRow, "nightly")).jwks = [key]
    root = bearer((await sign_in(client, "root")).json())
    assert (await client.get("/clients/nightly", headers=root)).json()["jwks"] == [key]
    changed = await client.patch("/clients/nightly", json={"jwks": [KEY.public_document]}, headers=root)
    assert changed.json()["jwks"] == [KEY.public_document]


@pytest.mark.parametrize("members", [{"kid": "a\ud800"}, {"kid": "a\nb"}, {"other": [{"\ud800": "\x00"}]}])
async def test_clients_with_a_key_of_before_that_cannot_be_written_are_listed(
    client: httpx.AsyncClient, settings: AuthSettings, members: dict[str, Any]
) -> None:
    await register_key(client)
    async with stored(settings) as transaction:
        (await transaction.get_one(ClientRow, "nightly")).jwks = [KEY.public_document | members]
    root = bearer((await sign_in(client, "root")).json())
    (listed,) = (await client.get("/clients", headers=root)).json()["clients"]
    assert listed["jwks"][0]["x"] == KEY.public_document["x"]
    assert (await client.get("/clients/nightly", headers=root)).json() == listed
    changed = await client.patch("/clients/nightly", json={"jwks": [KEY.public_document]}, headers=root)
    assert changed.json()["jwks"] == [KEY.public_document]


async def test_a_client_whose_keys_of_before_are_none_any_more_is_refused(
    client: httpx.AsyncClient, settings: AuthSettings
) -> None:
    await register_key(client)
    async with stored(settings) as transaction:
        (await transaction.get_one(ClientRow, "nightly")).jwks = [KEY.public_document | {"kid": 7}]
    assert_oauth_error(await ask(client, sign(claims())), 401, "invalid_client")


# Keys at an address


class KeyServer:
    """Serves a key set, to those who show the token that it wants."""

    def __init__(self) -> None:
        self.url = ""
        self.keys = [KEY]
        self.token = ""
        self.requests = 0


@contextmanager
def serve_keys() -> Iterator[KeyServer]:
    server = KeyServer()

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            server.requests += 1
            is_allowed = not server.token or self.headers.get("Authorization") == f"Bearer {server.token}"
            body = json.dumps({"keys": [key.public_document for key in server.keys]}).encode()
            self.respond(200 if is_allowed else 401, body)

    with serving(Handler) as url:
        server.url = f"{url}/jwks.json"
        yield server


@pytest.fixture
def key_server() -> Iterator[KeyServer]:
    with serve_keys() as server:
        yield server


async def test_keys_at_an_address_are_fetched_once(client: httpx.AsyncClient, key_server: KeyServer) -> None:
    await register(client, **PROVES_BY_KEY, jwks_uri=key_server.url)
    for _ in range(3):
        assert (await ask(client, sign(claims()))).status_code == 200
    assert key_server.requests == 1
    assert_oauth_error(await ask(client, sign(claims(), kid=None)), 401, "invalid_client")


async def test_an_address_that_is_away_is_503(client: httpx.AsyncClient) -> None:
    await register(client, **PROVES_BY_KEY, jwks_uri="http://127.0.0.1:9/jwks.json")
    response = await ask(client, sign(claims()))
    assert_oauth_error(response, 503, "temporarily_unavailable")
    assert int(response.headers["retry-after"]) > 0


async def test_an_address_of_before_that_cannot_be_asked_is_503(
    client: httpx.AsyncClient, settings: AuthSettings
) -> None:
    await register(client, **PROVES_BY_KEY, jwks_uri="http://127.0.0.1:9/jwks.json")
    async with stored(settings) as transaction:
        (await transaction.get_one(ClientRow, "nightly")).jwks_uri = "http://127.0.0.1:70000/jwks.json"
    assert_oauth_error(await ask(client, sign(claims())), 503, "temporarily_unavailable")
    root = bearer((await sign_in(client, "root")).json())
    assert (await client.get("/clients", headers=root)).status_code == 200


# ServiceAccounts of a cluster


def projected(**changes: Any) -> dict[str, Any]:
    """Return what a token has that the kubelet puts into a pod (Kubernetes 1.30)."""
    document = claims(
        iss=CLUSTER,
        sub=SUBJECT,
        aud=[ISSUER],
        exp=int(time.time()) + 7200,
        nbf=int(time.time()),
        **{
            "kubernetes.io": {
                "namespace": "reports",
                "node": {"name": "node-1", "uid": str(uuid4())},
                "pod": {"name": "nightly-28", "uid": str(uuid4())},
                "serviceaccount": {"name": "nightly", "uid": str(uuid4())},
            }
        },
    )
    return document | changes


@pytest.fixture
async def in_cluster(settings: AuthSettings, key_server: KeyServer, tmp_path: Path) -> AuthSettings:
    token = tmp_path / "token"
    token.write_text("the pod's own\n")
    key_server.token, key_server.keys = "the pod's own", [RSA_KEY]
    return settings.model_copy(
        update={"cluster_issuer": CLUSTER, "cluster_jwks_url": key_server.url, "cluster_token_file": token}
    )


async def test_a_service_account_needs_no_secret_and_its_token_may_come_again(in_cluster: AuthSettings) -> None:
    async with running(create_app(in_cluster)) as client:
        await register(client, **PROVES_BY_KEY, service_account="reports:nightly")
        assertion = sign(projected(), RSA_KEY, typ=None)
        for _ in range(2):
            response = await ask(client, assertion)
            assert response.status_code == 200, response.text
        assert (await verified(client, response.json()["access_token"])).subject == "nightly"
        assert (await ask(client, assertion, client_id="nightly")).status_code == 200
        assert_oauth_error(await ask(client, assertion, client_id="other"), 401, "invalid_client")


async def test_without_the_token_to_ask_the_cluster_with_it_is_503(in_cluster: AuthSettings) -> None:
    async with running(create_app(in_cluster)) as client:
        await register(client, **PROVES_BY_KEY, service_account="reports:nightly")
        assert in_cluster.cluster_token_file is not None
        in_cluster.cluster_token_file.unlink()
        assert_oauth_error(await ask(client, sign(projected(), RSA_KEY, typ=None)), 503, "temporarily_unavailable")


@pytest.mark.parametrize(
    "changes",
    [
        {"sub": "system:serviceaccount:reports:other"},
        {"sub": "system:serviceaccount:other:nightly"},
        {"sub": "reports:nightly"},
        {"sub": "system:serviceaccount:\x00:nightly"},
        {"sub": "nightly"},
        {"iss": "https://other.cluster"},
        {"aud": ["https://kubernetes.default.svc"]},
        {"aud": [ISSUER, "https://kubernetes.default.svc"]},
        {"exp": NOW - 1},
    ],
    ids=[str(number) for number in range(9)],
)
async def test_a_token_of_another_account_cluster_or_audience_is_401(
    in_cluster: AuthSettings, changes: dict[str, Any]
) -> None:
    async with running(create_app(in_cluster)) as client:
        await register(client, **PROVES_BY_KEY, service_account="reports:nightly")
        assert_oauth_error(await ask(client, sign(projected(**changes), RSA_KEY, typ=None)), 401, "invalid_client")


async def test_a_token_of_the_cluster_that_names_no_key_is_401(in_cluster: AuthSettings) -> None:
    async with running(create_app(in_cluster)) as client:
        await register(client, **PROVES_BY_KEY, service_account="reports:nightly")
        assert_oauth_error(await ask(client, sign(projected(), RSA_KEY, kid=None)), 401, "invalid_client")


async def test_a_client_cannot_sign_as_the_cluster(in_cluster: AuthSettings) -> None:
    async with running(create_app(in_cluster)) as client:
        await register(client, **PROVES_BY_KEY, service_account="reports:nightly")
        await register(client, "rogue", **PROVES_BY_KEY, jwks=[KEY.public_document])
        assert_oauth_error(await ask(client, sign(projected(), KEY)), 401, "invalid_client")


async def test_a_service_account_is_one_clients(in_cluster: AuthSettings) -> None:
    async with running(create_app(in_cluster)) as client:
        await register(client, **PROVES_BY_KEY, service_account="reports:nightly")
        await register(client, "second", **PROVES_BY_KEY, service_account="reports:second")
        root = bearer((await sign_in(client, "root")).json())
        body = {"id": "third", "name": "x", "scopes": ["profile"], "service_account": "reports:nightly"}
        for response in (
            await client.post("/clients", json=body | PROVES_BY_KEY, headers=root),
            await client.patch("/clients/second", json={"service_account": "reports:nightly"}, headers=root),
        ):
            assert response.status_code == 409, response.text


async def test_without_a_cluster_in_the_settings_its_tokens_are_nothing(client: httpx.AsyncClient) -> None:
    await register(client, **PROVES_BY_KEY, service_account="reports:nightly")
    assert_oauth_error(await ask(client, sign(projected(), RSA_KEY, typ=None)), 401, "invalid_client")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"service_account": "reports:nightly"}, {"service_account": "reports:another"}),
        ({"service_account": "reports:nightly"}, {"service_account": None, "jwks": [KEY.public_document]}),
        ({"jwks_uri": "{url}"}, {"jwks_uri": "{url}?of=another"}),
        ({"jwks": [RSA_KEY.public_document]}, {"jwks": None, "jwks_uri": "{url}"}),
    ],
    ids=["another account", "keys for an account", "another address", "an address for keys"],
)
async def test_whoever_could_sign_for_a_client_loses_its_tokens_when_somebody_else_can(
    in_cluster: AuthSettings, key_server: KeyServer, before: dict[str, Any], after: dict[str, Any]
) -> None:
    key_server.token = ""
    before, after = (
        {
            name: value.replace("{url}", key_server.url) if isinstance(value, str) else value
            for name, value in it.items()
        }
        for it in (before, after)
    )
    async with running(create_app(in_cluster)) as client:
        await register(client, **PROVES_BY_KEY, scopes=["clients:admin"], **before)
        root = bearer((await sign_in(client, "root")).json())
        document = projected() if "service_account" in before else claims()
        token = bearer((await ask(client, sign(document, RSA_KEY))).json())
        for changes, status in (({"name": "Another name"}, 200), (after, 401)):
            changed = await client.patch("/clients/nightly", json=changes, headers=root)
            assert changed.status_code == 200, changed.text
            assert (await client.get("/clients", headers=token)).status_code == status
