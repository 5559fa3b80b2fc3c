"""Keys over HTTP: asked for once, kept when the issuer is away."""

import asyncio
import gzip
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx
import pytest
from servicekit import jwks
from servicekit.health import Readiness
from servicekit.jwks import KEYS_NEED, MAX_SET_BYTES, JwksClient, KeysUnavailable, fetch_keys, open_jwks
from servicekit.tokens import SigningKey
from structlog.testing import capture_logs

from tests.eventually import eventually
from tests.http_server import QuietHandler, serving

KEY, NEW_KEY = SigningKey.generate("ES256"), SigningKey.generate("ES256")
COMPRESSED = gzip.compress(json.dumps({"keys": [NEW_KEY.public_document]}).encode())


class IssuerAway:
    """Answers requests for keys, or refuses them, and counts."""

    def __init__(self) -> None:
        self.answer: Callable[[], httpx.Response] = lambda: httpx.Response(200, json={"keys": [KEY.public_document]})
        self.requests = 0

    def __call__(self, _request: httpx.Request) -> httpx.Response:
        self.requests += 1
        return self.answer()

    def serve(self, *keys: SigningKey) -> None:
        self.answer = lambda: httpx.Response(200, json={"keys": [key.public_document for key in keys]})


@asynccontextmanager
async def client_of(issuer: IssuerAway, readiness: Readiness | None = None) -> AsyncIterator[JwksClient]:
    async with (
        httpx.AsyncClient(transport=httpx.MockTransport(issuer)) as http,
        open_jwks("http://issuer/keys", http, readiness or Readiness(KEYS_NEED), refresh_seconds=60) as keys,
    ):
        yield keys


@pytest.fixture
def issuer() -> IssuerAway:
    return IssuerAway()


@pytest.fixture
def no_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwks, "MIN_REFRESH_INTERVAL_SECONDS", 0.0)


async def test_a_hundred_callers_share_one_fetch(issuer: IssuerAway) -> None:
    readiness = Readiness(KEYS_NEED)
    async with client_of(issuer, readiness) as keys:
        found = await asyncio.gather(*(keys.get(KEY.key_id) for _ in range(100)))
    assert all(key is not None and key.key_id == KEY.key_id for key in found)
    assert issuer.requests == 1
    assert readiness.missing == {}


async def test_unknown_ids_do_not_make_more_fetches_within_the_interval(issuer: IssuerAway) -> None:
    async with client_of(issuer) as keys:
        assert await keys.get(KEY.key_id)
        for number in range(50):
            assert await keys.get(f"made up {number}") is None
    assert issuer.requests == 1


async def test_a_new_key_is_found_when_a_token_names_it(issuer: IssuerAway, no_interval: None) -> None:
    async with client_of(issuer) as keys:
        assert await keys.get(KEY.key_id)
        issuer.serve(KEY, NEW_KEY)
        assert await keys.get(NEW_KEY.key_id)


@pytest.mark.parametrize(
    "answer",
    [
        lambda: httpx.Response(500, json={"keys": [NEW_KEY.public_document]}),
        lambda: httpx.Response(200, text="<html>"),
        lambda: httpx.Response(200, json=[]),
        lambda: httpx.Response(200, json={}),
        lambda: httpx.Response(200, json={"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}),
        lambda: httpx.Response(200, json={"keys": 1}),
        lambda: httpx.Response(200, json={"keys": [NEW_KEY.public_document | {"kid": ["made up"]}]}),
        lambda: httpx.Response(200, text="[" * 100_000),
        lambda: httpx.Response(200, json={"keys": [NEW_KEY.public_document], "more": "x" * MAX_SET_BYTES}),
        lambda: httpx.Response(200, content=COMPRESSED, headers={"Content-Encoding": "gzip"}),
    ],
    ids=[
        "500",
        "not JSON",
        "a list",
        "an empty object",
        "a secret key",
        "not keys",
        "an id that is no text",
        "deep",
        "large",
        "compressed",
    ],
)
async def test_a_failed_fetch_keeps_the_last_good_keys(
    issuer: IssuerAway, no_interval: None, answer: Callable[[], httpx.Response]
) -> None:
    async with client_of(issuer) as keys:
        assert await keys.get(KEY.key_id)
        issuer.answer = answer
        assert await keys.get("made up") is None
        assert await keys.get(KEY.key_id)
    assert issuer.requests >= 2


async def test_an_address_that_is_none_has_no_keys(issuer: IssuerAway) -> None:
    async with httpx.AsyncClient(transport=httpx.MockTransport(issuer)) as http:
        with pytest.raises(KeysUnavailable):
            await JwksClient("https://\x00", http, Readiness()).get(KEY.key_id)


@pytest.mark.parametrize("host", ["127.0.0.1:65536", "[::1]:70000", "localhost:99999999999999999999"])
async def test_an_address_with_a_port_that_there_is_not_has_no_keys(host: str) -> None:
    async with httpx.AsyncClient() as http:
        with pytest.raises(KeysUnavailable):
            await JwksClient(f"http://{host}/jwks.json", http, Readiness()).get(KEY.key_id)


async def test_what_is_logged_of_an_address_holds_no_password(issuer: IssuerAway) -> None:
    issuer.answer = lambda: httpx.Response(500)
    url = "https://ada:secret@keys.example:8443/jwks.json?token=secret#secret"
    with capture_logs() as logged:
        async with httpx.AsyncClient(transport=httpx.MockTransport(issuer)) as http:
            with pytest.raises(KeysUnavailable):
                await JwksClient(url, http, Readiness()).get(KEY.key_id)
    assert [entry["url"] for entry in logged] == ["https://keys.example:8443/jwks.json"]


async def test_a_server_that_sends_a_byte_now_and_then_holds_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    class Dripping(QuietHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            until = time.monotonic() + 20
            while time.monotonic() < until:
                self.wfile.write(b" ")
                time.sleep(0.02)

    monkeypatch.setattr(jwks, "FETCH_SECONDS", 0.2)
    with serving(Dripping) as url:
        async with httpx.AsyncClient(timeout=60) as http:
            with pytest.raises(TimeoutError):
                await fetch_keys(url, http)
            with pytest.raises(KeysUnavailable):
                await JwksClient(url, http, Readiness()).get(KEY.key_id)


async def test_keys_that_are_of_no_use_are_passed_over(issuer: IssuerAway) -> None:
    strangers = [{"kty": "OKP", "crv": "Ed25519", "x": "AA", "kid": "1"}, {"kty": "RSA", "use": "enc"}, "text", {}]
    document = {"keys": [*strangers, KEY.public_document]}
    issuer.answer = lambda: httpx.Response(200, json=document)
    async with client_of(issuer) as keys:
        assert await keys.get(KEY.key_id)
        assert await keys.get("1") is None


async def test_a_retired_key_is_forgotten(issuer: IssuerAway, no_interval: None) -> None:
    async with client_of(issuer) as keys:
        assert await keys.get(KEY.key_id)
        issuer.serve(NEW_KEY)
        assert await keys.get(NEW_KEY.key_id)
        assert await keys.get(KEY.key_id) is None


async def test_an_issuer_that_is_away_at_first_is_asked_again(issuer: IssuerAway, no_interval: None) -> None:
    def refuse() -> httpx.Response:
        raise httpx.ConnectError("refused")

    issuer.answer = refuse
    readiness = Readiness(KEYS_NEED)
    async with client_of(issuer, readiness) as keys:
        with pytest.raises(KeysUnavailable) as unavailable:
            await keys.get(KEY.key_id)
        assert unavailable.value.status == 503
        assert int(unavailable.value.headers["Retry-After"]) > 0
        assert KEYS_NEED in readiness.missing
        issuer.serve(KEY)
        assert await keys.get(KEY.key_id)
    assert readiness.missing == {}


async def test_an_issuer_that_is_away_at_first_is_asked_soon_again_by_itself(
    issuer: IssuerAway, no_interval: None
) -> None:
    answer = issuer.answer
    issuer.answer = lambda: answer() if issuer.requests > 1 else httpx.Response(503)
    readiness = Readiness(KEYS_NEED)

    async def is_ready() -> bool:
        return readiness.missing == {}

    async with client_of(issuer, readiness):
        await eventually(is_ready)


async def test_a_key_that_was_given_up_is_forgotten_at_once(issuer: IssuerAway) -> None:
    issuer.serve(KEY, NEW_KEY)
    async with client_of(issuer) as keys:
        assert await keys.get(KEY.key_id)
        issuer.answer = lambda: httpx.Response(500)
        await keys.keep_only([NEW_KEY.key_id])
        assert await keys.get(KEY.key_id) is None
        assert await keys.get(NEW_KEY.key_id)


async def test_a_key_that_is_said_to_be_there_is_fetched_before_a_token_names_it(issuer: IssuerAway) -> None:
    async with client_of(issuer) as keys:
        assert await keys.get(KEY.key_id)
        issuer.serve(KEY, NEW_KEY)
        await keys.keep_only([KEY.key_id, NEW_KEY.key_id])  # however short ago the last fetch was
        assert issuer.requests == 2
        await keys.keep_only([KEY.key_id, NEW_KEY.key_id])
        assert issuer.requests == 2
        issuer.answer = lambda: httpx.Response(500)
        assert await keys.get(NEW_KEY.key_id)


async def test_without_any_good_key_a_token_is_refused_and_not_put_off(issuer: IssuerAway) -> None:
    async with client_of(issuer) as keys:
        assert await keys.get(KEY.key_id)
        await keys.keep_only([])
        assert await keys.get(KEY.key_id) is None


async def test_before_the_first_fetch_there_is_nothing_to_forget(issuer: IssuerAway) -> None:
    async with client_of(issuer) as keys:
        await keys.keep_only([NEW_KEY.key_id])
        assert await keys.get(KEY.key_id)
    assert issuer.requests == 1


async def test_keys_that_nobody_keeps_fresh_are_asked_for_again_when_they_are_old(
    issuer: IssuerAway, no_interval: None
) -> None:
    async with httpx.AsyncClient(transport=httpx.MockTransport(issuer)) as http:
        keys = JwksClient("http://issuer/keys", http, Readiness(), max_age_seconds=0.0)
        assert await keys.get(KEY.key_id)
        issuer.answer = lambda: httpx.Response(500)
        assert await keys.get(KEY.key_id)
        issuer.serve(NEW_KEY)
        assert await keys.get(KEY.key_id) is None


async def test_keys_that_are_young_are_not_asked_for_again(issuer: IssuerAway, no_interval: None) -> None:
    async with httpx.AsyncClient(transport=httpx.MockTransport(issuer)) as http:
        keys = JwksClient("http://issuer/keys", http, Readiness(), max_age_seconds=60)
        for _ in range(3):
            assert await keys.get(KEY.key_id)
    assert issuer.requests == 1


async def test_keys_are_fetched_again_and_again_without_being_asked_for(issuer: IssuerAway, no_interval: None) -> None:
    readiness = Readiness(KEYS_NEED)

    async def has_followed() -> bool:
        return issuer.requests > 2

    async with (
        httpx.AsyncClient(transport=httpx.MockTransport(issuer)) as http,
        open_jwks("http://issuer/keys", http, readiness, refresh_seconds=0.01),
    ):
        await eventually(has_followed)
    assert readiness.missing == {}
