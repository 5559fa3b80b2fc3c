"""How often a caller may ask."""

import asyncio
import contextlib
from collections.abc import Mapping

import httpx
import pytest
from inference_service.errors import TooManyRequests
from inference_service.metrics import InferenceMetrics
from inference_service.rates import MAX_CALLERS, RateLimiter
from inference_service.settings import InferenceSettings
from prometheus_client import CollectorRegistry

from tests.issuer import Issuer
from tests.unit.inference.conftest import SCOPE, serving
from tests.unit.inference.networks import tiny_source
from tests.unit.inference.test_predict import RED

PNG = {"Content-Type": "image/png"}
INFERENCE = {"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": ["x"]}]}


def limiter(per_second: float | None, burst: int = 2) -> RateLimiter:
    return RateLimiter(per_second, burst, InferenceMetrics(CollectorRegistry()))


def test_a_burst_is_let_in_and_then_one_at_a_time() -> None:
    rates = limiter(0.001)
    rates.take("ada")
    rates.take("ada")
    with pytest.raises(TooManyRequests) as refused:
        rates.take("ada")
    assert 999 <= int(refused.value.headers["Retry-After"]) <= 1000
    rates.take("grace")


async def test_the_bucket_fills_with_time() -> None:
    rates = limiter(100, burst=1)
    rates.take("ada")
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(TooManyRequests):
                rates.take("ada")
                break
            await asyncio.sleep(0)


def test_without_a_rate_nobody_is_counted() -> None:
    rates = limiter(None)
    for _ in range(100):
        rates.take("ada")


def test_the_callers_that_are_remembered_are_bounded() -> None:
    rates = limiter(0.001, burst=1)
    rates.take("first")
    for number in range(MAX_CALLERS):
        rates.take(str(number))
    rates.take("first")
    with pytest.raises(TooManyRequests):
        rates.take(str(MAX_CALLERS - 1))


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
