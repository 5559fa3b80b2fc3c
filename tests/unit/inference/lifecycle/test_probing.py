"""Ready is who answers: shown by a real inference, not by having been started."""

import asyncio
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import cast

import httpx
from inference_service.errors import Overloaded
from inference_service.lifecycle.loading import Loader
from inference_service.lifecycle.probing import Prober
from inference_service.lifecycle.registry import ModelRegistry, ServedModel
from inference_service.metrics import InferenceMetrics
from inference_service.model import Model
from inference_service.pipeline import Pipeline
from inference_service.settings import InferenceSettings
from prometheus_client import CollectorRegistry
from servicekit.health import Readiness
from structlog.testing import capture_logs
from torch import Tensor, nn

from tests.unit.inference.conftest import serving
from tests.unit.inference.networks import Failing, tiny_source
from tests.unit.inference.test_predict import RED


class Fickle(nn.Module):
    """Fails while it is told to, and counts its pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.failing = False
        self.computed = 0

    def forward(self, images: Tensor) -> Tensor:
        self.computed += 1
        if self.failing:
            raise RuntimeError("a path, a secret")
        return images.mean((2, 3))


@asynccontextmanager
async def probed(
    settings: InferenceSettings, network: Fickle, canary_seconds: float
) -> AsyncIterator[httpx.AsyncClient]:
    update = {"canary_seconds": canary_seconds}
    with capture_logs():
        async with serving(settings.model_copy(update=update), tiny_source(network)) as client:
            yield client


async def until_probe_says(client: httpx.AsyncClient, status: int) -> httpx.Response:
    async with asyncio.timeout(30):
        while (response := await client.get("/readyz")).status_code != status:  # noqa: ASYNC110 its probe alone tells
            await asyncio.sleep(0.005)
    return response


async def test_a_model_that_begins_to_fail_is_not_ready_until_it_answers_again(settings: InferenceSettings) -> None:
    network = Fickle()
    async with probed(settings, network, canary_seconds=0.02) as client:
        network.failing = True
        response = await until_probe_says(client, 503)
        network.failing = False
        await until_probe_says(client, 200)
        metrics = (await client.get("/metrics")).text
    assert "inference: tiny: the model failed on this batch" in response.json()["detail"]
    assert "secret" not in response.text
    assert "inference_requests_total{" not in metrics  # nobody has asked


class Busy:
    """Where another model has all the time, and nothing of this one was computed yet."""

    def __init__(self) -> None:
        self.ended_ago = 0.5

    def silent_seconds(self, model: Model | None = None) -> float:
        return self.ended_ago if model is None else math.inf

    async def probe(self, _data: bytes, _served: ServedModel, *, timeout_seconds: float) -> None:
        raise Overloaded(f"the queue is full, and {timeout_seconds} s would not do")


async def test_a_model_that_cannot_be_asked_for_all_the_work_is_ready_while_batches_end() -> None:
    models = ModelRegistry([tiny_source()], Readiness(), InferenceMetrics(CollectorRegistry()), Loader(1))
    await models.load([tiny_source()])
    busy, readiness = Busy(), Readiness()
    prober = Prober(cast("Pipeline", busy), models, readiness, interval_seconds=1, timeout_seconds=2)
    with capture_logs():
        await prober.ask()
        assert readiness.missing == {}
        busy.ended_ago = 3.5
        await prober.ask()
    assert "the queue is full" in readiness.missing["inference"]


async def test_a_canary_and_a_shadow_that_fail_do_not_make_the_service_unready(settings: InferenceSettings) -> None:
    network = Fickle()
    fast = settings.model_copy(update={"canary_seconds": 0.01})
    sources = tiny_source(network), tiny_source(Failing(), version="2", weight=0), tiny_source(version="3", shadow=0)
    async with serving(fast, *sources) as client:
        asked = network.computed
        async with asyncio.timeout(30):
            while network.computed < asked + 3:  # noqa: ASYNC110 each round asks the others after the first
                await asyncio.sleep(0.005)
        assert (await client.get("/readyz")).status_code == 200


async def test_a_model_that_answers_callers_is_not_asked(
    settings: InferenceSettings, bearer: Mapping[str, str]
) -> None:
    network = Fickle()
    async with probed(settings, network, canary_seconds=30) as client:
        warm_up = network.computed
        for _ in range(3):
            assert (await client.post("/predict", files={"file": RED}, headers=bearer)).status_code == 200
        assert network.computed == warm_up + 3


async def test_an_idle_model_is_asked_with_a_picture(settings: InferenceSettings) -> None:
    network = Fickle()
    async with probed(settings, network, canary_seconds=0.01) as client, asyncio.timeout(30):
        while network.computed < 4:  # noqa: ASYNC110 nothing else tells
            await asyncio.sleep(0.005)
        assert (await client.get("/readyz")).status_code == 200
