"""Limits on requests: by address, for all replicas where there is a Redis, and never at its cost where it is away."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar

import pytest
import redis
from limits import RateLimitItemPerHour
from prometheus_client import CollectorRegistry
from pydantic import SecretStr, ValidationError
from servicekit import rate_limits
from servicekit.rate_limits import RateLimit, open_rate_limit
from servicekit.settings import RateLimitSettings
from servicekit.telemetry import Telemetry
from structlog.testing import capture_logs

from tests.redis_server import serve_redis

LIMIT = 3
HERE, THERE = "192.0.2.1", "192.0.2.2"


class Settings(RateLimitSettings):
    service: ClassVar[str] = "tested"


@asynccontextmanager
async def limited(url: str | None = None, amount: int = LIMIT) -> AsyncIterator[RateLimit]:
    settings = Settings(rate_limit_redis_url=url and SecretStr(url))
    telemetry = Telemetry(settings, version="1", registry=CollectorRegistry())
    async with (
        telemetry.running(),
        open_rate_limit(settings, RateLimitItemPerHour, amount, telemetry=telemetry) as limit,
    ):
        yield limit


async def allowed(limit: RateLimit, address: str = HERE, times: int = 5) -> int:
    """Return how many of some requests may go on."""
    return [await limit.hit(address) for _ in range(times)].count(0)


async def test_without_redis_each_process_counts_by_itself() -> None:
    async with limited() as one, limited() as other:
        assert [await allowed(one), await allowed(one), await allowed(other)] == [LIMIT, 0, LIMIT]
        assert await allowed(one, THERE) == LIMIT


async def test_who_is_refused_is_told_when_to_come_again() -> None:
    async with limited() as limit:
        await allowed(limit)
        assert 1 <= await limit.hit(HERE) <= 3600


async def test_a_look_counts_nothing_and_tells_what_a_request_would_be_told(tmp_path: Path) -> None:
    with serve_redis(tmp_path) as (url, _):
        for where in (None, url):
            async with limited(where) as limit:
                assert [await limit.peek(HERE) for _ in range(LIMIT + 1)] == [0] * (LIMIT + 1)
                assert await allowed(limit) == LIMIT
                assert 1 <= await limit.peek(HERE) <= 3600


async def test_a_request_costs_the_same_however_many_addresses_there_are() -> None:
    """One caller may have any number of them: a sweep over all at each request would slow everybody down."""
    async with limited() as limit:
        start = time.process_time()
        for network in range(10_000):
            assert await limit.hit(f"2001:db8:0:{network:x}::1") == 0
            await asyncio.sleep(0)  # the loop turns between requests
        assert time.process_time() - start < 3


async def test_an_address_of_ipv6_counts_as_its_network() -> None:
    async with limited() as limit:
        assert await allowed(limit, "2001:db8::1") == LIMIT
        assert await allowed(limit, "2001:db8::ffff:2") == 0
        assert await allowed(limit, "2001:db8:0:1::1") == LIMIT


async def test_no_limit_is_no_limit() -> None:
    async with limited(amount=0) as limit:
        assert await allowed(limit, times=1000) == 1000


async def test_with_redis_all_replicas_count_together_and_it_learns_no_address(tmp_path: Path) -> None:
    with serve_redis(tmp_path) as (url, _):
        async with limited(url) as one, limited(url) as other:
            assert [await allowed(one, times=2), await allowed(other), await allowed(one)] == [2, 1, 0]
            assert 1 <= await other.hit(HERE) <= 3600
        with redis.Redis.from_url(url) as client:
            keys = client.keys("*")
        assert keys
        assert not [key for key in keys if HERE.encode() in key]


async def test_while_redis_is_away_each_process_counts_by_itself_and_asks_it_seldom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limits, "REDIS_RETRY_SECONDS", 60)
    with serve_redis(tmp_path) as (url, server):
        async with limited(url) as one, limited(url) as other:
            assert await allowed(one) == LIMIT
            server.kill()
            server.wait(10)
            with capture_logs() as logged:
                assert [await allowed(one), await allowed(one), await allowed(other)] == [LIMIT, 0, LIMIT]
            assert [entry["event"] for entry in logged] == ["rate_limits_are_away"] * 2


async def test_a_redis_that_was_never_there_stops_nothing(tmp_path: Path) -> None:
    async with limited(f"unix://{tmp_path}/nothing.sock") as limit:
        assert await allowed(limit) == LIMIT


def test_what_is_no_address_of_a_redis_is_refused() -> None:
    with pytest.raises(ValidationError, match="expected redis://"):
        Settings(rate_limit_redis_url=SecretStr("http://localhost"))
