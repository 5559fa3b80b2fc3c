"""Batches side by side: who has which threads, and what is known of the time."""

import asyncio
import threading
import time

import pytest
import torch
from inference_service.batch_times import BatchTimes
from inference_service.batching import Priority
from inference_service.model import Model
from inference_service.streams import Streams, default_streams
from torch import Tensor, nn

from tests.unit.inference.batches import batching
from tests.unit.inference.networks import tiny_model


class Gated(nn.Module):
    """Shows how many threads each batch has, and computes when the gate of its first picture is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: dict[float, int] = {}
        self.entered: dict[float, threading.Event] = {}
        self.opened: dict[float, threading.Event] = {}

    def gate(self, value: float) -> None:
        self.entered[value], self.opened[value] = threading.Event(), threading.Event()

    def forward(self, images: Tensor) -> Tensor:
        first = float(images[0, 0, 0, 0])
        self.threads[first] = torch.get_num_threads()
        if first in self.opened:
            self.entered[first].set()
            assert self.opened[first].wait(30)
        return images.mean((2, 3))


async def entered(network: Gated, value: float) -> None:
    assert await asyncio.to_thread(network.entered[value].wait, 30)


@pytest.mark.parametrize(("threads", "part"), [(4, 2), (3, 1), (1, 1)])
async def test_a_batch_has_all_threads_or_shares_them_with_the_next(threads: int, part: int) -> None:
    network = Gated()
    model = tiny_model(network)
    for value in (1.0, 2.0, 4.0, 6.0):
        network.gate(value)
    async with batching(max_batch_size=2, streams=2, threads=threads) as setup:
        first = asyncio.create_task(setup.infer(model, 1.0))
        await entered(network, 1.0)
        waiting = asyncio.create_task(setup.infer(model, 2.0, 3.0, 4.0, 5.0, 6.0))
        await setup.until_queued(5)  # the first has all, so that nothing starts beside it
        network.opened[1.0].set()
        await first
        await entered(network, 2.0)
        await entered(network, 4.0)
        assert setup.batcher.queue_size == 1
        # The later part ends first, and its rows keep their place.
        network.opened[4.0].set()
        await entered(network, 6.0)
        network.opened[6.0].set()
        network.opened[2.0].set()
        assert await waiting == [2.0, 3.0, 4.0, 5.0, 6.0]
        await setup.infer(model, 7.0)
    assert network.threads == {1.0: threads, 2.0: part, 4.0: part, 6.0: part, 7.0: threads}


class Recorded(BatchTimes):
    """Keeps what is added."""

    def __init__(self, max_batch_size: int) -> None:
        super().__init__(max_batch_size)
        self.added: list[float] = []

    def add(self, model: Model, rows: int, seconds: float) -> None:
        self.added.append(seconds)
        super().add(model, rows, seconds)


async def test_batches_side_by_side_are_one_device_that_is_busy() -> None:
    network = Gated()
    model = tiny_model(network)
    for value in (0.0, 1.0, 2.0):
        network.gate(value)
    async with batching(max_batch_size=1, streams=2, threads=2) as setup:
        setup.batcher._times = times = Recorded(1)
        started = time.perf_counter()
        waiting = [asyncio.create_task(setup.infer(model, value)) for value in (0.0, 1.0, 2.0)]
        network.opened[0.0].set()
        await entered(network, 1.0)
        await entered(network, 2.0)
        await asyncio.sleep(0.1)
        network.opened[1.0].set()
        network.opened[2.0].set()
        await asyncio.gather(*waiting)
        elapsed = time.perf_counter() - started
        assert 0.1 <= setup.sample("inference_device_busy_seconds_total", device="cpu") <= elapsed
        assert 0.1 <= sum(times.added) <= elapsed  # as all threads would have taken


async def test_the_end_waits_for_the_batches_of_all_streams() -> None:
    network = Gated()
    model = tiny_model(network)
    for value in (0.0, 1.0):
        network.gate(value)
    async with batching(max_batch_size=1, streams=2, threads=2) as setup:
        asked = [asyncio.create_task(setup.infer(model, value)) for value in (0.0, 1.0, 2.0)]
        await setup.until_queued(2)
        network.opened[0.0].set()
        await asked[2]
        closing = asyncio.create_task(setup.batcher.__aexit__(None, None, None))
        done, _ = await asyncio.wait([closing], timeout=0.05)
        assert not done
        network.opened[1.0].set()
        await closing
        assert await asyncio.gather(*asked) == [[0.0], [1.0], [2.0]]


async def test_what_waits_is_expected_after_what_is_left_of_all_that_runs() -> None:
    network = Gated()
    model = tiny_model(network)
    async with batching(max_batch_size=1, streams=2, threads=2) as setup:
        await setup.infer(model, 9.0)
        for _ in range(20):
            setup.batcher._times.add(model, 1, 100.0)
        for value in (0.0, 1.0, 2.0):
            network.gate(value)
        waiting = [asyncio.create_task(setup.infer(model, value)) for value in (0.0, 1.0, 2.0)]
        await setup.until_queued(2)
        network.opened[0.0].set()
        await entered(network, 1.0)
        await entered(network, 2.0)
        # The two that run take twice the time of one, and both are done then; so does the next, beside others.
        alone = setup.batcher._times.expected_seconds(model, 1)
        assert setup.batcher.expected_seconds(model, 1, Priority.INTERACTIVE) == pytest.approx(4 * alone, rel=0.1)
        network.opened[1.0].set()
        network.opened[2.0].set()
        await asyncio.gather(*waiting)


async def test_more_than_one_batch_is_expected_to_be_computed_side_by_side() -> None:
    network = Gated()
    model = tiny_model(network)
    network.gate(0.0)
    async with batching(max_batch_size=1, streams=2, threads=2) as setup:
        setup.batcher._times.add(model, 1, 100.0)
        running = asyncio.create_task(setup.infer(model, 0.0))  # with all threads, for 100 s
        await entered(network, 0.0)
        # One behind it would have all threads, too; of two each has half of them, and takes twice as long.
        assert setup.batcher.expected_seconds(model, 1, Priority.INTERACTIVE) == pytest.approx(200, rel=0.1)
        with setup.batcher.take_place(model):
            assert setup.batcher.expected_seconds(model, 1, Priority.INTERACTIVE) == pytest.approx(400, rel=0.1)
        network.opened[0.0].set()
        await running


def test_one_thread_has_nothing_to_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert [default_streams(threads) for threads in (1, 2, 16)] == [1, 2, 2]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert default_streams(16) == 1


def test_a_batch_that_passed_its_time_is_expected_now() -> None:
    streams = Streams(2, 2)
    batch = streams.start((), -1.0, alone=False)
    assert (streams.seconds_left(), streams.are_taken) == (0.0, False)
    streams.end(batch)
    assert streams.are_idle
