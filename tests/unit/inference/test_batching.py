"""Many requests in one batch: each gets its own answer, and nobody spoils another's."""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Iterator, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as tried
from hypothesis import strategies as st
from inference_service.batching import MOST_PASSED_OVER, Priority
from inference_service.errors import InferenceFailed, Overloaded, ShuttingDown
from inference_service.model import Model
from inference_service.timings import StageTimings
from structlog.testing import capture_logs
from torch import Tensor, nn

from tests.unit.inference.batches import POISON, Setup, Watched, batching, pictures, until
from tests.unit.inference.networks import tiny_model


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[MutableMapping[str, Any]]]:
    """What was logged; to print each traceback would take longer than all else."""
    with capture_logs() as entries:
        yield entries


@asynccontextmanager
async def busy(setup: Setup, network: Watched, model: Model, first: float = 1000.0) -> AsyncIterator[None]:
    """Hold the model with one picture; the end of the block lets it go on."""
    running = asyncio.create_task(setup.infer(model, first))
    await until(network.entered)
    try:
        yield
    finally:
        network.opened.set()
    assert await running == [first]


# Filling


async def test_a_lone_request_is_computed_at_once() -> None:
    async with batching(max_queue_delay_seconds=60) as setup, asyncio.timeout(30):
        assert await setup.infer(tiny_model(Watched()), 7.0) == [7.0]


async def test_a_lone_request_waits_less_than_a_millisecond() -> None:
    model = tiny_model(Watched())
    image = pictures(1.0)
    added = []
    async with batching() as setup:
        loop = asyncio.get_running_loop()
        for _ in range(300):
            started = time.perf_counter()
            await loop.run_in_executor(setup.model_thread, model.forward, image)
            direct = time.perf_counter() - started
            started = time.perf_counter()
            with setup.batcher.take_place(model) as place:
                await place.infer(image, StageTimings())
            added.append(time.perf_counter() - started - direct)
    assert statistics.median(added) < 0.001


async def test_what_waits_while_a_batch_runs_is_computed_together() -> None:
    network = Watched(gated=True)
    model = tiny_model(network)
    async with batching(max_batch_size=4) as setup:
        async with busy(setup, network, model):
            waiting = [asyncio.create_task(setup.infer(model, float(value))) for value in range(6)]
            await setup.until_queued(6)
        assert await asyncio.gather(*waiting) == [[float(value)] for value in range(6)]
    assert network.batches == [[1000.0], [0.0, 1.0, 2.0, 3.0], [4.0, 5.0]]
    assert setup.sample("inference_batch_size_sum") == 7
    assert setup.sample("inference_batch_size_count") == 3
    assert setup.sample("inference_device_busy_seconds_total", device="cpu") > 0


async def test_a_batch_waits_for_those_who_are_on_their_way_until_it_is_full() -> None:
    network = Watched()
    model = tiny_model(network)
    async with batching(max_batch_size=2, max_queue_delay_seconds=60) as setup, asyncio.timeout(30):
        with setup.batcher.take_place(model) as decoding, setup.batcher.take_place(model):
            first = asyncio.create_task(setup.infer(model, 1.0))
            await setup.until_queued(3)
            await decoding.infer(pictures(2.0), StageTimings())
            await first
    assert network.batches == [[1.0, 2.0]]


async def test_a_batch_does_not_wait_for_who_will_not_come() -> None:
    network = Watched()
    model = tiny_model(network)
    async with batching(max_queue_delay_seconds=60) as setup, asyncio.timeout(30):
        with setup.batcher.take_place(model):
            waiting = asyncio.create_task(setup.infer(model, 1.0))
            await setup.until_queued(2)
            assert network.batches == []
        assert await waiting == [1.0]


async def test_a_batch_waits_no_longer_than_the_delay() -> None:
    model = tiny_model(Watched())
    async with batching(max_queue_delay_seconds=0.02) as setup, asyncio.timeout(30):
        with setup.batcher.take_place(model):
            assert await setup.infer(model, 1.0) == [1.0]


async def test_a_batch_is_of_one_dtype() -> None:
    network = Watched(gated=True)
    model = tiny_model(network)
    async with batching() as setup:

        async def infer(images: Tensor) -> list[float]:
            with setup.batcher.take_place(model) as place:
                return (await place.infer(images, StageTimings()))[:, 0].tolist()

        async with busy(setup, network, model):
            # A model for a GPU is given levels by pictures, and numbers by callers who prepare them.
            waiting = [asyncio.create_task(infer(images)) for images in (pictures(7.0), pictures(8.0).double())]
            await setup.until_queued(2)
        assert await asyncio.gather(*waiting) == [[7.0], [8.0]]
    assert network.batches == [[1000.0], [7.0], [8.0]]


async def test_what_is_computed_in_another_way_is_alone_and_tells_nothing_of_the_model() -> None:
    network = Watched(gated=True)
    model = tiny_model(network)

    def explain(images: Tensor) -> Tensor:
        return -images.mean((2, 3))

    async with batching() as setup:
        async with busy(setup, network, model):
            with setup.batcher.take_place(model) as place:
                explaining = asyncio.create_task(place.infer(pictures(5.0), StageTimings(), explain))
                waiting = asyncio.create_task(setup.infer(model, 6.0))
                await setup.until_queued(2)
        assert (await explaining).tolist() == [[-5.0] * 3]
        assert await waiting == [6.0]
        assert setup.sample("inference_batch_size_count") == 2
    assert network.batches == [[1000.0], [6.0]]


async def test_a_batch_is_of_one_model_and_one_shape() -> None:
    network, other = Watched(gated=True), Watched()
    model, other_model = tiny_model(network), tiny_model(other)
    async with batching() as setup:
        async with busy(setup, network, model):
            waiting = [
                asyncio.create_task(setup.infer(asked, value, side=side))
                for asked, value, side in [(model, 1.0, 1), (other_model, 2.0, 1), (model, 3.0, 2), (model, 4.0, 1)]
            ]
            await setup.until_queued(4)
        assert await asyncio.gather(*waiting) == [[1.0], [2.0], [3.0], [4.0]]
    assert network.batches == [[1000.0], [1.0, 4.0], [3.0]]
    assert other.batches == [[2.0]]


async def test_the_interactive_are_computed_before_the_low() -> None:
    network = Watched(gated=True)
    model = tiny_model(network)
    async with batching(max_batch_size=2) as setup:
        async with busy(setup, network, model):
            low = [asyncio.create_task(setup.infer(model, value, priority=Priority.LOW)) for value in (1.0, 2.0)]
            await setup.until_queued(2)
            interactive = [asyncio.create_task(setup.infer(model, value)) for value in (3.0, 4.0, 5.0)]
            await setup.until_queued(5)
        await asyncio.gather(*low, *interactive)
    assert network.batches == [[1000.0], [3.0, 4.0], [5.0, 1.0], [2.0]]


@pytest.mark.parametrize("batch_size", [1, 2])
async def test_a_low_priority_is_passed_over_so_often_and_no_more(batch_size: int) -> None:
    network = Watched(gated=True)
    model = tiny_model(network)
    async with batching(max_batch_size=batch_size) as setup:
        async with busy(setup, network, model):
            low = [asyncio.create_task(setup.infer(model, value, priority=Priority.LOW)) for value in (-2.0, -3.0)]
            await setup.until_queued(2)
            others = (MOST_PASSED_OVER * 2 + 2) * batch_size
            interactive = [asyncio.create_task(setup.infer(model, float(value))) for value in range(others)]
            await setup.until_queued(2 + others)
        await asyncio.gather(*low, *interactive)
    turns = [index for index, batch in enumerate(network.batches[1:]) if min(batch) < 0]
    assert turns == [MOST_PASSED_OVER, 2 * MOST_PASSED_OVER + 1]


async def test_many_rows_of_one_request_come_back_in_order_from_several_batches() -> None:
    network = Watched()
    timings = StageTimings()
    async with batching(max_batch_size=4) as setup:
        with setup.batcher.take_place(tiny_model(network), rows=10) as place:
            logits = await place.infer(pictures(*range(10)), timings)
    assert logits[:, 0].tolist() == list(range(10))
    assert [len(batch) for batch in network.batches] == [4, 4, 2]
    assert timings.seconds().keys() == {"queue", "compute"}


async def test_time_that_rows_wait_while_others_of_their_request_are_computed_counts_once() -> None:
    class Slow(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            time.sleep(0.01)
            return images.mean((2, 3))

    timings = StageTimings()
    async with batching(max_batch_size=1) as setup:
        started = time.perf_counter()
        with setup.batcher.take_place(tiny_model(Slow()), rows=4) as place:
            await place.infer(pictures(*range(4)), timings)
        elapsed = time.perf_counter() - started
    assert 0.04 <= sum(timings.seconds().values()) <= elapsed


# Leaving


async def test_of_a_hundred_who_wait_only_the_one_who_stays_is_computed() -> None:
    network = Watched(gated=True)
    model = tiny_model(network)
    async with batching() as setup:
        async with busy(setup, network, model):
            waiting = [asyncio.create_task(setup.infer(model, float(value))) for value in range(100)]
            await setup.until_queued(100)
            for task in waiting[:42] + waiting[43:]:
                task.cancel()
            await setup.until_queued(1)
            assert setup.sample("inference_queue_size") == 1
        assert await waiting[42] == [42.0]
    assert network.batches == [[1000.0], [42.0]]


async def test_who_leaves_before_the_thread_is_free_is_not_computed() -> None:
    network = Watched()
    model = tiny_model(network)
    async with batching() as setup:
        free = asyncio.Event()
        loop = asyncio.get_running_loop()
        # Something else than a batch is on the thread, as the loading of a model may be.
        other = loop.run_in_executor(
            setup.model_thread, lambda: asyncio.run_coroutine_threadsafe(free.wait(), loop).result(30)
        )
        leaving = asyncio.create_task(setup.infer(model, 1.0))
        staying = asyncio.create_task(setup.infer(model, 2.0))
        await setup.until_queued(1)
        leaving.cancel()
        await asyncio.wait([leaving])
        free.set()
        await other
        assert await staying == [2.0]
    assert network.batches == [[2.0]]


async def test_who_leaves_a_running_batch_does_not_fail_it() -> None:
    network = Watched(gated=True)
    model = tiny_model(network)
    async with batching() as setup:
        leaving = asyncio.create_task(setup.infer(model, 1.0))
        await until(network.entered)
        leaving.cancel()
        await asyncio.wait([leaving])
        staying = asyncio.create_task(setup.infer(model, 2.0))
        network.opened.set()
        assert await staying == [2.0]


# Failing


async def test_a_failed_batch_fails_those_in_it_and_nobody_else(logged: list[MutableMapping[str, Any]]) -> None:
    network = Watched(gated=True)
    model = tiny_model(network)
    async with batching(max_batch_size=3) as setup:
        async with busy(setup, network, model):
            values = (1.0, POISON, 2.0, 3.0, 4.0)
            waiting = [asyncio.create_task(setup.infer(model, value)) for value in values]
            await setup.until_queued(5)
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(result) for result in results[:3]] == [InferenceFailed] * 3
        assert results[3:] == [[3.0], [4.0]]
        assert await setup.infer(model, 5.0) == [5.0]
    assert [(entry["event"], entry["rows"]) for entry in logged] == [("batch_failed", 3)]


async def test_the_rest_of_a_request_that_failed_is_not_computed() -> None:
    network = Watched()
    model = tiny_model(network)
    async with batching(max_batch_size=2) as setup:
        with pytest.raises(InferenceFailed):
            await setup.infer(model, POISON, 1.0, 2.0, 3.0, 4.0)
    assert network.batches == [[POISON, 1.0]]


async def test_a_model_that_gives_too_few_rows_fails() -> None:
    class Losing(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.zeros(len(images) - 1, 3)

    async with batching() as setup:
        with pytest.raises(InferenceFailed) as failure:
            await setup.infer(tiny_model(Losing()), 1.0, 2.0)
    assert "1 rows of logits for 2 pictures" in str(failure.value.__cause__)


# Limits and the end


async def test_one_more_than_the_queue_holds_is_refused_and_what_is_decoded_counts() -> None:
    network = Watched(gated=True)
    model = tiny_model(network)
    async with batching(max_batch_size=2, max_queue_size=3) as setup:
        async with busy(setup, network, model):
            waiting = [asyncio.create_task(setup.infer(model, value)) for value in (1.0, 2.0)]
            await setup.until_queued(2)
            with pytest.raises(Overloaded):
                setup.batcher.take_place(model, rows=2)
            with setup.batcher.take_place(model), pytest.raises(Overloaded):
                await setup.infer(model, 3.0)
            assert setup.sample("inference_queue_size") == 2
        await asyncio.gather(*waiting)
        assert setup.sample("inference_rejections_total", reason="queue_full") == 2


async def test_the_end_waits_for_the_queue_and_takes_no_more() -> None:
    network = Watched(gated=True)
    model = tiny_model(network)
    async with batching(max_batch_size=2) as setup:
        with setup.batcher.take_place(model) as decoding:
            waiting = [asyncio.create_task(setup.infer(model, float(value))) for value in range(5)]
            await until(network.entered)
            closing = asyncio.create_task(setup.batcher.__aexit__(None, None, None))
            await asyncio.sleep(0)  # it has begun
            with pytest.raises(ShuttingDown):
                setup.batcher.take_place(model)
            network.opened.set()
            assert await asyncio.gather(*waiting) == [[float(value)] for value in range(5)]
            assert not closing.done()
            assert (await decoding.infer(pictures(9.0), StageTimings())).tolist() == [[9.0] * 3]
        await closing


# Whatever happens


@given(
    requests=st.lists(
        st.tuples(
            st.integers(1, 6),  # rows
            st.sampled_from(["stay", "stay", "stay", "leave", "poison"]),
            st.sampled_from(Priority),
            st.integers(0, 3),  # steps of the loop before it comes, and before it leaves
        ),
        max_size=25,
    ),
    max_batch_size=st.integers(1, 8),
    delay=st.sampled_from([0.0, 0.001]),
    streams=st.integers(1, 3),
)
@tried(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_each_answer_belongs_to_its_request(
    requests: list[tuple[int, str, Priority, int]], max_batch_size: int, delay: float, streams: int
) -> None:
    network = Watched()
    model = tiny_model(network)
    counter = iter(range(1, 1000))
    sent: list[tuple[list[float], str, asyncio.Task[list[float]]]] = []
    async with (
        asyncio.timeout(30),
        batching(max_batch_size=max_batch_size, max_queue_delay_seconds=delay, streams=streams) as setup,
    ):
        for rows, fate, priority, steps in requests:
            values = [float(next(counter)) for _ in range(rows)]
            if fate == "poison":
                values[-1] = POISON
            task = asyncio.create_task(setup.infer(model, *values, priority=priority))
            sent.append((values, fate, task))
            for _ in range(steps):
                await asyncio.sleep(0)
            if fate == "leave":
                task.cancel()
        await asyncio.gather(*(task for *_, task in sent), return_exceptions=True)
        assert setup.batcher.queue_size == 0
    poisoned = {value for batch in network.batches if POISON in batch for value in batch}
    for values, fate, task in sent:
        if task.cancelled():
            assert fate == "leave"
        elif poisoned.intersection(values):
            assert isinstance(task.exception(), InferenceFailed)
        else:
            assert task.result() == values
    assert all(len(batch) <= max_batch_size for batch in network.batches)
