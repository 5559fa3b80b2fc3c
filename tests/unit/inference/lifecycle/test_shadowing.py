"""A version whose answers nobody gets: compared, and never in the way."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import httpx
import pytest
from inference_service.errors import Overloaded
from inference_service.lifecycle.loading import Loader
from inference_service.lifecycle.registry import ModelRegistry, ModelState, ServedModel
from inference_service.lifecycle.shadowing import MOST_WAITING, Shadows
from inference_service.metrics import InferenceMetrics
from inference_service.pictures import EncodedPicture, Picture
from inference_service.settings import InferenceSettings
from prometheus_client import CollectorRegistry
from servicekit.health import Readiness
from structlog.testing import capture_logs
from torch import Tensor, nn, tensor

from tests.unit.inference.conftest import serving
from tests.unit.inference.networks import LABELS, Failing, Gate, Overflowing, tiny_model, tiny_source
from tests.unit.inference.oip.messages import infer_body
from tests.unit.inference.test_predict import RED

PICTURE = EncodedPicture(RED)
Compute = Callable[[Picture, ServedModel], Awaitable[Tensor]]


class Opposite(nn.Module):
    """Tells which colour a picture has least of."""

    def forward(self, images: Tensor) -> Tensor:
        return -images.mean((2, 3))


async def until_counted(client: httpx.AsyncClient, outcome: str, count: int) -> None:
    line = f'inference_shadow_comparisons_total{{model="tiny",outcome="{outcome}"}} {count}.0'
    async with asyncio.timeout(30):
        while line not in (await client.get("/metrics")).text:  # noqa: ASYNC110 the metrics alone tell
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    ("network", "outcome"), [(None, "agree"), (Opposite(), "disagree"), (Failing(), "failed")], ids=lambda found: None
)
async def test_an_answer_is_compared_and_the_caller_gets_the_stable_one(
    settings: InferenceSettings, bearer: Mapping[str, str], network: nn.Module | None, outcome: str
) -> None:
    with capture_logs():
        async with serving(settings, tiny_source(), tiny_source(network, version="2", shadow=100)) as client:
            answer = await client.post("/predict", files={"file": RED}, headers=bearer)
            await until_counted(client, outcome, 1)
            inferred = await client.post("/v2/models/tiny/infer", json=infer_body(RED), headers=bearer)
            await until_counted(client, outcome, 2)
            metrics = (await client.get("/metrics")).text
    assert (answer.status_code, answer.json()["label"], answer.json()["model"]["version"]) == (200, "red", "1")
    assert (inferred.status_code, inferred.json()["model_version"]) == (200, "1")
    assert 'inference_requests_total{model="tiny",outcome="ok"} 2.0' in metrics  # the shadow's are not counted


@pytest.mark.parametrize("network", [Failing(), Overflowing()])
async def test_a_shadow_that_fails_is_stopped(
    settings: InferenceSettings, bearer: Mapping[str, str], network: nn.Module
) -> None:
    sources = tiny_source(), tiny_source(network, version="2", shadow=100)
    few = settings.model_copy(update={"rollout_window": 2})
    with capture_logs():
        async with serving(few, *sources) as client:
            for count in (1, 2):
                assert (await client.post("/predict", files={"file": RED}, headers=bearer)).status_code == 200
                await until_counted(client, "failed", count)
            assert (await client.post("/predict", files={"file": RED}, headers=bearer)).status_code == 200
            version = (await client.get("/models/tiny/versions/2", headers=bearer)).json()
    assert (version["shadow"], version["reason"]) == (0, "stopped: 2 of its last 2 computations failed")


async def test_a_shadow_makes_way_for_callers(settings: InferenceSettings, bearer: Mapping[str, str]) -> None:
    """While a picture is computed, nothing goes to a shadow: it is dropped, and nobody waits for it."""
    gate = Gate()
    sources = tiny_source(), tiny_source(version="2", shadow=100), tiny_source(gate, name="slow")
    cached = settings.model_copy(update={"cache_max_bytes": 1_000_000})
    async with serving(cached, *sources) as client:
        assert (await client.post("/predict", files={"file": RED}, headers=bearer)).status_code == 200
        await until_counted(client, "agree", 1)
        slow = asyncio.create_task(client.post("/predict?model=slow", files={"file": RED}, headers=bearer))
        assert await asyncio.to_thread(gate.entered.wait, 30)
        answer = await client.post("/predict", files={"file": RED}, headers=bearer)  # from the cache
        await until_counted(client, "dropped", 1)
        gate.opened.set()
        assert (await slow).status_code == 200
    assert answer.status_code == 200


class Setup:
    """A stable version and its shadow, both loaded."""

    def __init__(self, *, shadow: float = 100, labels: tuple[str, ...] = LABELS, chances: Sequence[float] = ()) -> None:
        self.collected = CollectorRegistry()
        metrics = InferenceMetrics(self.collected)
        sources = [tiny_source(), tiny_source(version="2", shadow=shadow), tiny_source(version="3", weight=10)]
        self.models = ModelRegistry(sources, Readiness(), metrics, Loader(1))
        for served in self.models:
            served.model, served.state = tiny_model(labels=labels), ModelState.READY
        drawn = iter(chances)
        self.shadows = Shadows(self.models, metrics, chance=lambda: next(drawn, 0.0))
        self.asked = 0

    async def compute(self, _picture: Picture, served: ServedModel) -> Tensor:
        assert served.source.version == "2"
        self.asked += 1
        return tensor([3.0, 2.0, 1.0])

    def follow(self, version: str = "1", *, labels: tuple[str, ...] = LABELS) -> None:
        self.shadows.follow(self.models.get(version=version), labels, PICTURE, tensor([3.0, 2.0, 1.0]))

    def count(self, outcome: str) -> float:
        labels = {"model": "tiny", "outcome": outcome}
        return self.collected.get_sample_value("inference_shadow_comparisons_total", labels) or 0

    async def until_compared(self, outcome: str, count: int, compute: Compute | None = None) -> None:
        """Let the shadow compare until so many have come out so."""
        comparing = asyncio.create_task(self.shadows.run(compute or self.compute))
        async with asyncio.timeout(30):
            while self.count(outcome) < count:  # noqa: ASYNC110 the metric alone tells
                await asyncio.sleep(0)
        comparing.cancel()


async def test_a_shadow_goes_along_with_its_share_of_the_requests() -> None:
    setup = Setup(shadow=30, chances=[0.0, 0.29, 0.3, 0.99])
    for _ in range(4):
        setup.follow()
    await setup.until_compared("agree", 2)
    assert setup.asked == 2


async def test_more_than_a_few_pictures_are_never_kept() -> None:
    setup = Setup()
    for _ in range(MOST_WAITING + 3):
        setup.follow()
    assert setup.count("dropped") == 3
    await setup.until_compared("agree", MOST_WAITING)


async def test_only_what_the_stable_version_has_answered_is_compared() -> None:
    setup = Setup()
    setup.follow("2")
    setup.follow("3")
    setup.follow("1")
    await setup.until_compared("agree", 1)
    assert setup.asked == 1


async def test_an_answer_of_a_model_that_is_gone_meanwhile_is_compared_with_nothing() -> None:
    setup = Setup()
    served = setup.models.get(version="1")
    await setup.models.load([tiny_source(name="other")])
    setup.shadows.follow(served, LABELS, PICTURE, tensor([3.0, 2.0, 1.0]))
    assert setup.count("dropped") == 0


async def test_answers_are_compared_by_label_not_by_index() -> None:
    setup = Setup(labels=("rouge", "vert", "bleu"))
    setup.follow(labels=LABELS)
    await setup.until_compared("disagree", 1)


async def test_what_waits_for_a_shadow_that_was_stopped_is_dropped() -> None:
    setup = Setup()
    setup.follow()
    setup.models.get(version="2").stop("it fails")
    await setup.until_compared("dropped", 1)
    assert setup.asked == 0


@pytest.mark.parametrize(("error", "outcome"), [(Overloaded("busy"), "dropped"), (KeyError("a bug"), "failed")])
async def test_whatever_goes_wrong_the_comparing_goes_on(error: Exception, outcome: str) -> None:
    setup = Setup()

    async def fail_once(picture: Picture, served: ServedModel) -> Tensor:
        if setup.asked == 0:
            setup.asked += 1
            raise error
        return await setup.compute(picture, served)

    setup.follow()
    setup.follow()
    with capture_logs():
        await setup.until_compared("agree", 1, fail_once)
    assert setup.count(outcome) == 1
