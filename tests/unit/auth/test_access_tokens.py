"""The claims of access tokens, and the token that auth shows to users."""

import json
import time
from base64 import urlsafe_b64decode
from datetime import timedelta
from typing import Any

import httpx
import pytest
from auth_service.access_tokens import RENEW_BEFORE_SECONDS, AccessTokens, ServiceToken
from auth_service.signing_keys import KeyRing, KeyTimes, RingKey
from servicekit.database import new_id, utc_now
from servicekit.tokens import SigningKey

from tests.unit.auth.fake_users import FakeUsers
from tests.unit.auth.requests import refresh, signed_in, verified


def new_key() -> RingKey:
    key, now = SigningKey.generate("ES256"), utc_now()
    return RingKey(KeyTimes(key.key_id, "ES256", created_at=now, active_from=now), key.public_document, key)


@pytest.fixture
def ring() -> KeyRing:
    return KeyRing([new_key()], overlap=timedelta(minutes=16))


@pytest.fixture
def tokens(ring: KeyRing) -> AccessTokens:
    return AccessTokens(ring, issuer="https://pinhole.example", audience="pinhole")


def read(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    header, payload, _ = (segment + "=" * (-len(segment) % 4) for segment in token.split("."))
    return json.loads(urlsafe_b64decode(header)), json.loads(urlsafe_b64decode(payload))


def test_a_token_is_as_rfc_9068_writes_it(tokens: AccessTokens) -> None:
    session_id = new_id()
    token = tokens.issue(subject="ada", client_id="web", scopes={"b", "a"}, lifetime_seconds=60, session_id=session_id)
    header, claims = read(token)
    assert header.keys() == {"alg", "typ", "kid"}
    assert header["typ"] == "at+jwt"
    now, token_id = claims.pop("iat"), claims.pop("jti")
    assert abs(time.time() - now) < 5
    assert token_id
    assert claims == {
        "iss": "https://pinhole.example",
        "sub": "ada",
        "aud": "pinhole",
        "exp": now + 60,
        "client_id": "web",
        "scope": "a b",
        "sid": str(session_id),
    }


def test_each_token_has_its_own_id(tokens: AccessTokens) -> None:
    ids = {
        read(tokens.issue(subject="ada", client_id="web", scopes=(), lifetime_seconds=60))[1]["jti"] for _ in range(9)
    }
    assert len(ids) == 9


async def test_users_is_shown_a_token_of_auth_itself(client: httpx.AsyncClient, users: FakeUsers) -> None:
    await refresh(client, await signed_in(client))
    first, second = (asked.authorization for asked in users.asked)
    scheme, _, token = first.partition(" ")
    assert scheme == "Bearer"
    assert second == first
    claims = await verified(client, token)
    assert (claims.subject, claims.client_id, claims.session_id) == ("auth", "auth", None)
    assert claims.scopes == {"internal:accounts"}
    assert claims.expires_at - claims.issued_at <= 300


@pytest.mark.parametrize(
    ("lifetime_seconds", "is_renewed"), [(RENEW_BEFORE_SECONDS, True), (RENEW_BEFORE_SECONDS + 60, False)]
)
def test_the_service_token_is_renewed_when_its_end_is_near(
    tokens: AccessTokens, lifetime_seconds: int, is_renewed: bool
) -> None:
    service_token = ServiceToken(tokens, lifetime_seconds=lifetime_seconds)
    first, second = (
        next(service_token.auth_flow(httpx.Request("GET", "http://users"))).headers["Authorization"] for _ in range(2)
    )
    assert (first != second) is is_renewed


def test_the_service_token_is_renewed_when_its_key_is_given_up(tokens: AccessTokens, ring: KeyRing) -> None:
    service_token, request = ServiceToken(tokens), httpx.Request("GET", "http://users")
    first = next(service_token.auth_flow(request)).headers["Authorization"]
    ring.replace([new_key()], overlap=timedelta(minutes=16))
    second = next(service_token.auth_flow(request)).headers["Authorization"]
    assert read(second.removeprefix("Bearer "))[0]["kid"] == ring.current.key_id
    assert second != first
