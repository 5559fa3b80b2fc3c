"""What auth counts: requests for tokens and sign-ins by what comes of them, copied refresh tokens, the key's age."""

import time
from datetime import timedelta

import httpx
import pytest
from auth_service.main import create_app
from auth_service.metrics import AuthMetrics
from auth_service.settings import AuthSettings
from prometheus_client import CollectorRegistry
from servicekit.connections import DatabaseUnavailable

from tests.asgi import running
from tests.exposition import exposed
from tests.unit.auth.fake_users import Answer, FakeUsers
from tests.unit.auth.requests import ask_as_client, let_pass, refresh, register, sign_in, signed_in


async def counted(client: httpx.AsyncClient, grant_type: str, outcome: str) -> float:
    return (await exposed(client)).value("auth_token_requests_total", grant_type=grant_type, outcome=outcome)


async def logins(client: httpx.AsyncClient) -> dict[str, float]:
    metrics = await exposed(client)
    outcomes = ("ok", "refused", "locked", "unavailable", "error")
    values = {outcome: metrics.value("auth_logins_total", outcome=outcome) for outcome in outcomes}
    return {outcome: value for outcome, value in values.items() if value}


async def test_each_grant_that_is_given_is_counted(client: httpx.AsyncClient) -> None:
    await refresh(client, await signed_in(client))
    secret = (await register(client))["secret"]
    await ask_as_client(client, f"nightly:{secret}")
    assert await counted(client, "password", "ok") == 2
    assert await counted(client, "refresh_token", "ok") == 1
    assert await counted(client, "client_credentials", "ok") == 1
    assert await logins(client) == {"ok": 2}


async def test_what_is_refused_is_counted_by_its_error(client: httpx.AsyncClient) -> None:
    await sign_in(client, password="wrong")
    await sign_in(client, scope="nonsense:1")
    await refresh(client, "unknown")
    await ask_as_client(client, "nobody:secret")
    assert await counted(client, "password", "invalid_grant") == 1
    assert await counted(client, "password", "invalid_scope") == 1
    assert await counted(client, "refresh_token", "invalid_grant") == 1
    assert await counted(client, "client_credentials", "invalid_client") == 1
    assert (await logins(client))["refused"] >= 1


async def test_a_caller_makes_no_label_of_its_own(client: httpx.AsyncClient) -> None:
    for body in ("grant_type=urn:made:up", "grant_type=made-up-2", "username=ada", "grant_type=a&grant_type=b", "%ff"):
        content_type = {"Content-Type": "application/x-www-form-urlencoded"}
        assert (await client.post("/token", content=body, headers=content_type)).status_code == 400
    assert (await client.post("/token", json={})).status_code == 400
    assert await counted(client, "unsupported", "unsupported_grant_type") == 2
    assert await counted(client, "unknown", "invalid_request") == 4
    samples = (await exposed(client)).families["auth_token_requests_total"].samples
    assert {sample.labels["grant_type"] for sample in samples} == {"unsupported", "unknown"}


async def test_too_many_attempts_at_a_name_are_a_lock(client: httpx.AsyncClient, users: FakeUsers) -> None:
    users.answer = Answer(429, headers={"Retry-After": "30"})
    assert (await sign_in(client)).status_code == 429
    assert await logins(client) == {"locked": 1}
    assert await counted(client, "password", "slow_down") == 1


async def test_too_many_requests_from_an_address_are_counted_before_they_are_read(settings: AuthSettings) -> None:
    limited = settings.model_copy(update={"token_requests_per_minute": 1})
    async with running(create_app(limited)) as client:
        await sign_in(client)
        assert (await sign_in(client)).status_code == 429
        assert await counted(client, "unknown", "slow_down") == 1
        assert await logins(client) == {"ok": 1}


async def test_users_that_are_away_make_sign_ins_unavailable(client: httpx.AsyncClient, users: FakeUsers) -> None:
    users.answer = Answer(500)
    assert (await sign_in(client)).status_code == 503
    assert await logins(client) == {"unavailable": 1}
    assert await counted(client, "password", "temporarily_unavailable") == 1


async def test_a_copied_refresh_token_is_counted_once(settings: AuthSettings, users: FakeUsers) -> None:
    async with running(create_app(settings)) as client:
        stolen = await signed_in(client)
        assert (await refresh(client, stolen)).status_code == 200
        assert (await refresh(client, stolen)).status_code == 200  # a retry within the grace is none
        assert (await exposed(client)).value("auth_refresh_reuse_total") == 0
        await let_pass(settings, timedelta(hours=1))
        assert (await refresh(client, stolen)).status_code == 400
        assert (await refresh(client, stolen)).status_code == 400  # its session is over
        assert (await exposed(client)).value("auth_refresh_reuse_total") == 1


async def test_the_age_of_the_signing_key_is_shown(client: httpx.AsyncClient) -> None:
    created_at = (await exposed(client)).value("auth_signing_key_created_timestamp_seconds")
    assert time.time() - 60 < created_at <= time.time()


@pytest.mark.parametrize(
    ("error", "login", "outcome"),
    [(DatabaseUnavailable(), "unavailable", "temporarily_unavailable"), (KeyError(), "error", "error")],
)
def test_what_is_no_error_of_oauth_is_counted_too(error: Exception, login: str, outcome: str) -> None:
    registry = CollectorRegistry()
    metrics = AuthMetrics(registry)

    def sign_in() -> None:
        with metrics.token_request() as request, metrics.login():
            request.asks_for("password")
            raise error

    with pytest.raises(type(error)):
        sign_in()
    assert registry.get_sample_value("auth_logins_total", {"outcome": login}) == 1
    labels = {"grant_type": "password", "outcome": outcome}
    assert registry.get_sample_value("auth_token_requests_total", labels) == 1
