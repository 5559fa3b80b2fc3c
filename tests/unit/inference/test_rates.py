"""How often a caller may ask."""

import asyncio
import contextlib
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest
from inference_service.errors import TooManyRequests
from inference_service.metrics import InferenceMetrics
from inference_service.rates import MAX_CALLERS, RateLimiter, window
from inference_service.settings import InferenceSettings
from prometheus_client import CollectorRegistry
from pydantic import SecretStr
from structlog.testing import capture_logs

from tests.issuer import Issuer
from tests.redis_server import serve_redis
from tests.unit.inference.conftest import SCOPE, serving
from tests.unit.inference.networks import tiny_source
from tests.unit.inference.test_predict import RED

PNG = {"Content-Type": "image/png"}
INFERENCE = {"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": ["x"]}]}


def limiter(per_second: float | None, burst: int = 2) -> RateLimiter:
    return RateLimiter(per_second, burst, InferenceMetrics(CollectorRegistry()))


async def test_a_burst_is_let_in_and_then_one_at_a_time() -> None:
    rates = limiter(0.001)
    await rates.take("ada")
    await rates.take("ada")
    with pytest.raises(TooManyRequests) as refused:
        await rates.take("ada")
    assert 999 <= int(refused.value.headers["Retry-After"]) <= 1000
    await rates.take("grace")


async def test_the_bucket_fills_with_time() -> None:
    rates = limiter(100, burst=1)
    await rates.take("ada")
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(TooManyRequests):
                await rates.take("ada")
                break
            await asyncio.sleep(0)


async def test_a_bucket_fills_as_time_has_passed_and_no_further_than_the_burst() -> None:
    rates = limiter(1.0, burst=2)

    async def take_after(seconds: float, times: int) -> None:
        if seconds:
            rates._buckets["ada"].filled_at -= seconds
        for _ in range(times):
            await rates.take("ada")
        with pytest.raises(TooManyRequests):
            await rates.take("ada")

    await take_after(0, 2)
    await take_after(1, 1)
    await take_after(0, 0)
    await take_after(1000, 2)


async def test_without_a_rate_nobody_is_counted() -> None:
    rates = limiter(None)
    for _ in range(100):
        await rates.take("ada")


async def test_the_callers_that_are_remembered_are_bounded() -> None:
    rates = limiter(0.001, burst=1)
    await rates.take("first")
    for number in range(MAX_CALLERS):
        await rates.take(str(number))
    await rates.take("first")
    with pytest.raises(TooManyRequests):
        await rates.take(str(MAX_CALLERS - 1))


async def test_who_was_silent_for_longest_is_forgotten_first() -> None:
    rates = limiter(0.001, burst=2)
    for number in range(MAX_CALLERS):
        await rates.take(str(number))
    await rates.take("0")
    await rates.take("another")  # in place of 1
    with pytest.raises(TooManyRequests):
        await rates.take("0")
    await rates.take("1")
    await rates.take("1")


@pytest.mark.parametrize("path", ["/predict", "/explain"])
async def test_a_caller_over_the_rate_is_told_when_to_come_again(
    settings: InferenceSettings, issuer: Issuer, path: str
) -> None:
    limited = settings.model_copy(update={"requests_per_second": 0.01, "requests_burst": 2})
    ada, grace = (issuer.bearer(subject=name, scope=SCOPE) for name in ("ada", "grace"))
    async with serving(limited, tiny_source()) as client:

        async def ask(caller: Mapping[str, str]) -> httpx.Response:
            return await client.post(path, content=RED, headers={**caller, **PNG})

        assert [(await ask(ada)).status_code for _ in range(2)] == [200, 200]
        refused = await ask(ada)
        assert refused.status_code == 429
        assert refused.headers["content-type"] == "application/problem+json"
        assert 90 <= int(refused.headers["Retry-After"]) <= 100
        assert (await client.get("/models", headers=ada)).status_code == 200
        assert (await ask(grace)).status_code == 200
        protocol = await client.post("/v2/models/tiny/infer", json=INFERENCE, headers=ada)
        assert protocol.status_code == 429
        assert protocol.json().keys() == {"error"}
        assert 'inference_rejections_total{reason="rate"} 2.0' in (await client.get("/metrics")).text


@pytest.mark.parametrize(
    ("per_second", "burst", "expected"),
    [(5, 20, (20, 4)), (0.01, 2, (2, 200)), (3, 20, (21, 7)), (0.7, 1, (1, 2)), (50, 20, (50, 1))],
)
def test_a_window_has_the_rate_and_about_the_burst(per_second: float, burst: int, expected: tuple[int, int]) -> None:
    assert window(per_second, burst) == expected


async def test_with_redis_all_replicas_count_together_and_by_themselves_while_it_is_away(
    settings: InferenceSettings, issuer: Issuer, tmp_path: Path
) -> None:
    ada, grace = (issuer.bearer(subject=name, scope=SCOPE) for name in ("ada", "grace"))

    async def answers(client: httpx.AsyncClient, caller: Mapping[str, str], times: int) -> list[int]:
        asked = [await client.post("/predict", content=RED, headers={**caller, **PNG}) for _ in range(times)]
        return [response.status_code for response in asked]

    with serve_redis(tmp_path) as (url, server):
        shared = {"requests_per_second": 0.01, "requests_burst": 2, "rate_limit_redis_url": SecretStr(url)}
        limited = settings.model_copy(update=shared)
        async with serving(limited, tiny_source()) as one, serving(limited, tiny_source()) as other:
            assert await answers(one, ada, 1) == [200]
            assert await answers(other, ada, 2) == [200, 429]
            refused = await one.post("/v2/models/tiny/infer", json=INFERENCE, headers=ada)
            assert (refused.status_code, refused.json().keys()) == (429, {"error"})
            assert 1 <= int(refused.headers["Retry-After"]) <= 400
            assert await answers(one, grace, 1) == [200]
            server.kill()
            server.wait(10)
            with capture_logs() as logged:
                assert await answers(one, ada, 3) == [200, 200, 429]
                assert await answers(other, ada, 3) == [200, 200, 429]
    assert "rate_limits_are_away" in {entry["event"] for entry in logged}
