"""Who is let in, and what becomes of the service when too many come."""

import asyncio
import contextlib
import resource
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor

import pytest
from inference_service.admission import Admission, BodyBudget
from inference_service.batch_times import OLD_SECONDS
from inference_service.batching import Priority
from inference_service.errors import Overloaded
from inference_service.lifecycle.failure_watch import FailureWatch
from inference_service.lifecycle.loading import Loader
from inference_service.lifecycle.registry import ModelRegistry, ModelState, ServedModel
from inference_service.lifecycle.shadowing import Shadows
from inference_service.metrics import InferenceMetrics
from inference_service.pipeline import Pipeline
from inference_service.timings import StageTimings
from PIL import Image
from prometheus_client import CollectorRegistry
from servicekit.health import Readiness
from torch import Tensor, nn

from tests.unit.clock import Clock
from tests.unit.inference.batches import Setup, Watched, batching, until
from tests.unit.inference.networks import tiny_model, tiny_source
from tests.unit.inference.pictures import encoded

MIB = 2**20


def admission(setup: Setup) -> Admission:
    return Admission(setup.batcher, decode_threads=1, default_timeout_seconds=10, metrics=setup.metrics)


async def test_who_can_be_answered_in_time_is_let_in_and_who_cannot_is_told_when_to_come_back() -> None:
    network = Watched(gated=True)
    model = tiny_model(network)
    async with batching(max_batch_size=1) as setup:
        doors = admission(setup)
        doors.decoded(0.5)  # each picture takes half a second on the one thread
        running = asyncio.create_task(setup.infer(model, 1.0))
        await until(network.entered)
        with doors.admit(model, priority=Priority.INTERACTIVE, timeout_seconds=0.7):
            with pytest.raises(Overloaded) as refused:
                doors.admit(model, rows=4, priority=Priority.INTERACTIVE, timeout_seconds=1.0)
            doors.check(model, rows=4, priority=Priority.INTERACTIVE, timeout_seconds=3.1)
            with pytest.raises(Overloaded):
                doors.check(model, rows=4, priority=Priority.INTERACTIVE, timeout_seconds=2.9)
            doors.decoded(1.5)  # as does that one: half of it counts at once
            with pytest.raises(Overloaded):
                doors.check(model, rows=4, priority=Priority.INTERACTIVE, timeout_seconds=5.9)
            doors.check(model, rows=4, priority=Priority.INTERACTIVE, timeout_seconds=6.1)
        network.opened.set()
        await running
    assert refused.value.headers["Retry-After"] == "2"  # five pictures, with the margin: 3 s
    assert setup.sample("inference_rejections_total", reason="too_late") == 3


async def test_the_low_wait_for_the_interactive_and_not_the_other_way_round() -> None:
    network = Watched(gated=True)
    model = tiny_model(network)
    async with batching(max_batch_size=1) as setup:
        running = asyncio.create_task(setup.infer(model, 1.0))
        await until(network.entered)
        setup.batcher._times.add(model, 1, 1.0)
        with setup.batcher.take_place(model, rows=5), setup.batcher.take_place(model, rows=9, priority=Priority.LOW):
            assert setup.batcher.expected_seconds(model, 1, Priority.INTERACTIVE) == pytest.approx(6)
            assert setup.batcher.expected_seconds(model, 1, Priority.LOW) == pytest.approx(15)
        low = asyncio.create_task(setup.infer(model, *[2.0] * 9, priority=Priority.LOW))
        await setup.until_queued(9)
        assert setup.batcher.expected_seconds(model, 1, Priority.INTERACTIVE) == pytest.approx(1)
        assert setup.batcher.expected_seconds(model, 1, Priority.LOW) == pytest.approx(10)
        network.opened.set()
        await asyncio.gather(running, low)


async def test_a_model_that_was_slow_by_chance_is_tried_again_where_others_are_always_busy() -> None:
    network = Watched(gated=True)
    busy, slow = tiny_model(network), tiny_model(Watched())
    async with batching(max_batch_size=1) as setup:
        doors, times = admission(setup), setup.batcher._times
        running = asyncio.create_task(setup.infer(busy, 1.0))
        await until(network.entered)
        times.add(slow, 1, 30.0)
        with pytest.raises(Overloaded):
            doors.check(slow, priority=Priority.INTERACTIVE, timeout_seconds=10)
        times._last_at[slow] -= OLD_SECONDS
        with doors.admit(slow, priority=Priority.INTERACTIVE, timeout_seconds=10), pytest.raises(Overloaded):
            doors.admit(slow, priority=Priority.INTERACTIVE, timeout_seconds=10)  # one is enough to see it
        times.add(busy, 1, 30.0)
        with setup.batcher.take_place(busy), pytest.raises(Overloaded):
            doors.check(slow, priority=Priority.INTERACTIVE, timeout_seconds=10)  # it would come after them
        network.opened.set()
        await running


async def test_what_is_learnt_of_those_who_do_not_say_how_long_they_wait_is_for_them_alone() -> None:
    network = Watched(gated=True)
    model = tiny_model(network)
    async with batching(max_batch_size=1) as setup:
        doors, clock = admission(setup), Clock(1000.0)
        doors._patience[Priority.INTERACTIVE]._clock = clock

        def leave(timeout_seconds: float | None) -> None:
            with doors.waiting(priority=Priority.INTERACTIVE, timeout_seconds=timeout_seconds):
                clock.now += 1.0
                raise asyncio.CancelledError

        running = asyncio.create_task(setup.infer(model, 1.0))
        await until(network.entered)
        setup.batcher._times.add(model, 1, 3.0)
        for _ in range(20):
            with pytest.raises(asyncio.CancelledError):
                leave(5.0)
        doors.check(model, priority=Priority.INTERACTIVE, timeout_seconds=None)
        for _ in range(20):
            with pytest.raises(asyncio.CancelledError):
                leave(None)
        with pytest.raises(Overloaded, match="callers leave after"):
            doors.check(model, priority=Priority.INTERACTIVE, timeout_seconds=None)
        doors.check(model, priority=Priority.INTERACTIVE, timeout_seconds=5.0)
        doors.check(model, priority=Priority.LOW, timeout_seconds=None)
        network.opened.set()
        await running


async def test_who_finds_nobody_there_is_let_in_whatever_was_measured() -> None:
    model = tiny_model(Watched())
    async with batching() as setup:
        doors = admission(setup)
        doors.decoded(1000.0)
        with doors.admit(model, priority=Priority.INTERACTIVE, timeout_seconds=0.1):
            pass


def test_bytes_are_given_back_whatever_happens() -> None:
    registry = CollectorRegistry()
    budget = BodyBudget(100, InferenceMetrics(registry))
    with budget.hold(0) as add:
        add(60)
        add(40)
        assert registry.get_sample_value("inference_body_bytes") == 100
        with pytest.raises(Overloaded):
            add(1)
    assert registry.get_sample_value("inference_body_bytes") == 0
    with budget.hold(100):
        pass
    with pytest.raises(Overloaded), budget.hold(101):
        pass
    assert registry.get_sample_value("inference_rejections_total", {"reason": "body_bytes"}) == 2


class Slow(nn.Module):
    """Takes a tenth of a second a batch, whatever its size."""

    SECONDS = 0.1

    def forward(self, images: Tensor) -> Tensor:
        time.sleep(self.SECONDS)
        return images.mean((2, 3))


@contextlib.asynccontextmanager
async def overloaded(batch_size: int) -> AsyncIterator[tuple[Pipeline, ServedModel]]:
    """Yield a way for pictures that takes a tenth of a second a batch."""
    served = ServedModel(tiny_source())
    served.model, served.state = tiny_model(Slow()), ModelState.READY
    async with batching(max_batch_size=batch_size, max_queue_size=64) as setup:
        with ThreadPoolExecutor(2) as decode_pool:
            pipeline = Pipeline(
                decode_pool=decode_pool,
                admission=Admission(setup.batcher, decode_threads=2, default_timeout_seconds=10, metrics=setup.metrics),
                cache=None,
                max_image_pixels=1000,
                metrics=setup.metrics,
                watch=FailureWatch(setup.metrics, window=20, share=0.1),
                shadows=Shadows(ModelRegistry([tiny_source()], Readiness(), setup.metrics, Loader(1)), setup.metrics),
            )
            yield pipeline, served


async def open_loop(ask: Callable[[], Coroutine[None, None, None]], *, rate: float, seconds: float) -> int:
    """Ask at even times, whether others are answered or not; return how often."""
    sent = 0
    async with asyncio.TaskGroup() as tasks:
        started = time.perf_counter()
        while (elapsed := time.perf_counter() - started) < seconds:
            for _ in range(sent, int(elapsed * rate)):
                tasks.create_task(ask())
                sent += 1
            await asyncio.sleep(0.005)
    return sent


async def test_under_three_times_the_load_what_is_let_in_is_answered_in_time() -> None:
    batch_size, deadline_seconds, load_seconds = 4, 1.0, 3.0
    capacity = batch_size / Slow.SECONDS
    picture = encoded(Image.new("RGB", (8, 8), "red"), "PNG")
    outcomes: Counter[str] = Counter()
    slowest = 0.0
    async with overloaded(batch_size) as (pipeline, served):

        async def ask() -> None:
            nonlocal slowest
            started = time.perf_counter()
            try:
                await pipeline.classify(
                    picture, served, top_k=1, timeout_seconds=deadline_seconds, timings=StageTimings()
                )
            except Overloaded:
                outcomes["refused"] += 1
            else:
                outcomes["answered"] += 1
                slowest = max(slowest, time.perf_counter() - started)

        await ask()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        sent = await open_loop(ask, rate=3 * capacity, seconds=load_seconds)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        async with asyncio.timeout(10):
            await ask()
    assert outcomes["refused"] + outcomes["answered"] == sent + 2
    assert outcomes["refused"] > sent / 3
    assert outcomes["answered"] >= 0.8 * capacity * load_seconds
    assert slowest <= deadline_seconds
    assert grown < 32 * MIB


async def test_callers_who_leave_without_having_said_when_are_not_computed_in_vain() -> None:
    # A full queue of 64 is 1.6 s long, and they leave after 1 s: first come, first served would compute each of them
    # just when it leaves.
    batch_size, patience_seconds, load_seconds = 4, 1.0, 6.0
    capacity = batch_size / Slow.SECONDS
    picture = encoded(Image.new("RGB", (8, 8), "red"), "PNG")
    outcomes: Counter[str] = Counter()
    reasons: set[str] = set()
    async with overloaded(batch_size) as (pipeline, served):

        async def ask() -> None:
            try:
                async with asyncio.timeout(patience_seconds):
                    await pipeline.classify(picture, served, top_k=1, timeout_seconds=None, timings=StageTimings())
            except Overloaded as refused:
                outcomes["refused"] += 1
                reasons.add(str(refused).partition(", ")[2].partition(" after ")[0])
            except TimeoutError:
                outcomes["left"] += 1
            else:
                outcomes["answered"] += 1

        await ask()
        await open_loop(ask, rate=3 * capacity, seconds=load_seconds)
    assert "and callers leave" in reasons
    assert outcomes["answered"] >= 0.7 * capacity * load_seconds
    assert outcomes["left"] < outcomes["answered"] / 2
