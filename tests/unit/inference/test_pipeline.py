"""One picture through all stages, in time or not at all."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial

import pytest
from inference_service.admission import Admission
from inference_service.batching import DynamicBatcher
from inference_service.errors import DeadlineExceeded, InferenceFailed, InvalidImage, ModelNotReady, Overloaded
from inference_service.heartbeat import Heartbeat
from inference_service.lifecycle.failure_watch import FailureWatch
from inference_service.lifecycle.loading import Loader
from inference_service.lifecycle.registry import ModelRegistry, ModelState, ServedModel
from inference_service.lifecycle.shadowing import Shadows
from inference_service.metrics import InferenceMetrics
from inference_service.pictures import EncodedPicture
from inference_service.pipeline import Pipeline
from inference_service.postprocessing import Prediction
from inference_service.preprocessing import Preprocessing
from inference_service.streams import Streams
from inference_service.timings import STAGES, StageTimings
from opentelemetry.trace import NoOpTracer
from PIL import Image
from prometheus_client import CollectorRegistry
from servicekit.health import Readiness
from torch import Tensor, nn

from tests.unit.inference.networks import Colours, Gate, tiny_model, tiny_source
from tests.unit.inference.pictures import encoded

RED = encoded(Image.new("RGB", (20, 20), (250, 10, 5)), "PNG")


def served(network: nn.Module) -> ServedModel:
    """Return a model that is ready, and was warmed by one picture."""
    model = tiny_model(network)
    model.warm_up()
    ready = ServedModel(tiny_source())
    ready.model, ready.state = model, ModelState.READY
    return ready


class Setup:
    def __init__(
        self, pipeline: Pipeline, batcher: DynamicBatcher, model_thread: Executor, registry: CollectorRegistry
    ) -> None:
        self.pipeline = pipeline
        self.batcher = batcher
        self.model_thread = model_thread
        self._registry = registry

    async def classify(
        self, network: ServedModel, data: bytes = RED, *, timeout_seconds: float = 30
    ) -> list[Prediction]:
        classified = await self.pipeline.classify(
            data, network, top_k=2, timeout_seconds=timeout_seconds, timings=StageTimings()
        )
        return classified.predictions

    def count(self, outcome: str) -> float | None:
        return self._registry.get_sample_value("inference_requests_total", {"model": "tiny", "outcome": outcome})

    @property
    def in_flight(self) -> float | None:
        return self._registry.get_sample_value("inference_requests_in_flight")

    @property
    def measured(self) -> float | None:
        """How many answers have a duration."""
        return self._registry.get_sample_value("inference_request_duration_seconds_count", {"model": "tiny"})

    def stage_count(self, stage: str) -> float | None:
        return self._registry.get_sample_value("inference_stage_duration_seconds_count", {"stage": stage})


@contextlib.asynccontextmanager
async def opened() -> AsyncIterator[Setup]:
    registry = CollectorRegistry()
    metrics = InferenceMetrics(registry)
    with ThreadPoolExecutor(2) as decode_pool, ThreadPoolExecutor(1) as model_thread:
        async with DynamicBatcher(
            model_thread,
            Streams(1, 1),
            max_batch_size=8,
            max_queue_size=64,
            max_queue_delay_seconds=0.005,
            heartbeat=Heartbeat(30),
            tracer=NoOpTracer(),
            metrics=metrics,
        ) as batcher:
            pipeline = Pipeline(
                decode_pool=decode_pool,
                admission=Admission(batcher, decode_threads=2, default_timeout_seconds=10, metrics=metrics),
                cache=None,
                max_image_pixels=1_000_000,
                metrics=metrics,
                watch=FailureWatch(metrics, window=20, share=0.1),
                shadows=Shadows(ModelRegistry([tiny_source()], Readiness(), metrics, Loader(1)), metrics),
            )
            yield Setup(pipeline, batcher, model_thread, registry)


async def until(event: threading.Event) -> None:
    """Wait for what another thread sets."""
    assert await asyncio.to_thread(event.wait, 30)


async def test_a_picture_is_classified_and_each_stage_measured() -> None:
    async with opened() as setup:
        timings = StageTimings()
        timings.add("receive", 0.001)
        best = await setup.pipeline.classify(RED, served(Colours()), top_k=2, timeout_seconds=30, timings=timings)
        assert [found.label for found in best.predictions] == ["red", "green"]
        assert tuple(timings.seconds()) == STAGES
        assert [setup.stage_count(stage) for stage in STAGES] == [1] * len(STAGES)
        assert (setup.count("ok"), setup.in_flight, setup.measured) == (1, 0, 1)


async def test_a_bad_picture_fails_alone() -> None:
    async with opened() as setup:
        model = served(Colours())
        results = await asyncio.gather(
            *(setup.classify(model, RED[:60] if number == 3 else RED) for number in range(8)), return_exceptions=True
        )
        assert [number for number, result in enumerate(results) if isinstance(result, InvalidImage)] == [3]
        assert (setup.count("ok"), setup.count("invalid")) == (7, 1)
        assert setup.measured == 7, "only what was answered has a duration"


class Watched:
    """A picture that tells when it is decoded, and is decoded when it may be."""

    data, kind = RED, "watched"

    def __init__(self) -> None:
        self.entered, self.opened = threading.Event(), threading.Event()

    def prepare(self, preprocessing: Preprocessing, timings: StageTimings, *, max_pixels: int) -> Tensor:
        self.entered.set()
        with timings.measure("decode"):
            assert self.opened.wait(30)
        return EncodedPicture(RED).prepare(preprocessing, timings, max_pixels=max_pixels)


async def test_pictures_of_one_request_are_let_in_together_or_none_of_them_is_decoded() -> None:
    gate = Gate()
    model = served(gate)
    picture = Watched()
    async with opened() as setup:
        infer = partial(setup.pipeline.infer, served=model, timeout_seconds=30, timings=StageTimings())
        first = asyncio.create_task(setup.classify(model))
        await until(gate.entered)
        with setup.batcher.take_place(model.require(), rows=62):
            with pytest.raises(Overloaded):
                await infer([picture] * 3)
            assert not picture.entered.is_set()
            two = asyncio.create_task(infer([picture] * 2))
            await until(picture.entered)
            assert setup.batcher.queue_size == 64
            picture.opened.set()
            gate.opened.set()
            assert len((await two).logits) == 2
        await first


async def test_what_decoding_takes_is_expected_of_the_next_and_told_of_the_slowest() -> None:
    model = served(Colours())
    slow, timings = Watched(), StageTimings()
    async with opened() as setup:
        asking = asyncio.create_task(
            setup.pipeline.infer([EncodedPicture(RED), slow], model, timeout_seconds=30, timings=timings)
        )
        await until(slow.entered)
        await asyncio.sleep(0.1)  # so long it takes at least
        slow.opened.set()
        await asking
        assert timings.seconds()["decode"] >= 0.1
        with setup.batcher.take_place(model.require()):
            with pytest.raises(Overloaded, match="the answer would take"):
                setup.pipeline.check(model, timeout_seconds=0.02)
            setup.pipeline.check(model, timeout_seconds=30)


async def test_who_comes_while_a_picture_for_idle_times_is_decoded_goes_first() -> None:
    model = served(Colours())
    for comes in (False, True):
        picture = Watched()
        async with opened() as setup:
            asking = asyncio.create_task(setup.pipeline.compute_when_idle(picture, model, timeout_seconds=30))
            await until(picture.entered)
            with setup.batcher.take_place(model.require()) if comes else contextlib.nullcontext():
                picture.opened.set()
                if comes:
                    with pytest.raises(Overloaded, match="other work"):
                        await asking
                else:
                    assert len(await asking) == 3


async def test_a_model_that_is_not_loaded_says_so() -> None:
    async with opened() as setup:
        with pytest.raises(ModelNotReady, match="tiny: loading"):
            await setup.classify(ServedModel(tiny_source()))


async def test_callers_who_left_are_not_computed() -> None:
    gate = Gate()
    model = served(gate)
    async with opened() as setup:
        first = asyncio.create_task(setup.classify(model))
        await until(gate.entered)
        others = [asyncio.create_task(setup.classify(model)) for _ in range(20)]
        last = asyncio.create_task(setup.classify(model))
        async with asyncio.timeout(30):
            while setup.batcher.queue_size < 21:  # noqa: ASYNC110 nothing else tells
                await asyncio.sleep(0)
        for other in others:
            other.cancel()
        await asyncio.wait(others)
        gate.opened.set()
        assert [found.label for found in await first] == ["red", "green"]
        assert [found.label for found in await last] == ["red", "green"]
        assert gate.computed == 3  # the warm-up, the first and the last
        assert (setup.count("cancelled"), setup.count("ok"), setup.in_flight) == (20, 2, 0)


async def test_what_is_not_there_in_time_is_given_up_and_not_computed() -> None:
    gate = Gate()
    model = served(gate)
    free = threading.Event()
    async with opened() as setup:
        setup.model_thread.submit(free.wait, 30)
        with pytest.raises(DeadlineExceeded, match=r"within 0\.1 s"):
            await setup.classify(model, timeout_seconds=0.1)
        free.set()
    assert gate.computed == 1  # the warm-up
    assert (setup.count("timeout"), setup.in_flight) == (1, 0)


async def test_a_network_that_fails_fails_its_request_only() -> None:
    class Failing(nn.Module):
        def forward(self, _images: object) -> object:
            raise RuntimeError("no result")

    broken = ServedModel(tiny_source())
    broken.model, broken.state = tiny_model(Failing()), ModelState.READY
    async with opened() as setup:
        with pytest.raises(InferenceFailed):
            await setup.classify(broken)
        assert len(await setup.classify(served(Colours()))) == 2
        assert (setup.count("error"), setup.count("ok")) == (1, 1)
