"""A batcher on a real thread, and a network that shows what it was given."""

import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import torch
from inference_service.batching import DynamicBatcher, Priority
from inference_service.heartbeat import Heartbeat
from inference_service.metrics import InferenceMetrics
from inference_service.model import Model
from inference_service.streams import Streams
from inference_service.timings import StageTimings
from opentelemetry.trace import NoOpTracer
from prometheus_client import CollectorRegistry
from torch import Tensor, nn

POISON = -1.0
"""A batch with this picture cannot be computed."""


class Watched(nn.Module):
    """Gives each picture back as its logits, and keeps what was computed together."""

    def __init__(self, *, gated: bool = False) -> None:
        super().__init__()
        self.batches: list[list[float]] = []
        self.entered = threading.Semaphore(0)
        self.opened = threading.Event()
        if not gated:
            self.opened.set()

    def forward(self, images: Tensor) -> Tensor:
        values = images[:, 0, 0, 0].tolist()
        self.batches.append(values)
        self.entered.release()
        assert self.opened.wait(30)
        if POISON in values:
            raise RuntimeError("no result")
        return images.mean((2, 3))


def pictures(*values: float, side: int = 1) -> Tensor:
    """Return a picture of one level for each value."""
    return torch.tensor(values).view(-1, 1, 1, 1).expand(-1, 3, side, side)


class Setup:
    def __init__(
        self,
        batcher: DynamicBatcher,
        model_thread: ThreadPoolExecutor,
        metrics: InferenceMetrics,
        registry: CollectorRegistry,
    ) -> None:
        self.batcher = batcher
        self.model_thread = model_thread
        self.metrics = metrics
        self.registry = registry

    async def infer(
        self, model: Model, *values: float, priority: Priority = Priority.INTERACTIVE, side: int = 1
    ) -> list[float]:
        """Return what came back for each value."""
        with self.batcher.take_place(model, rows=len(values), priority=priority) as place:
            logits = await place.infer(pictures(*values, side=side), StageTimings())
        return [row[0] for row in logits.tolist()]

    def sample(self, name: str, **labels: str) -> float:
        value = self.registry.get_sample_value(name, labels)
        assert value is not None
        return value

    async def until_queued(self, rows: int) -> None:
        """Wait until so many rows are in the queue."""
        async with asyncio.timeout(30):
            while self.batcher.queue_size != rows:  # noqa: ASYNC110 nothing else tells
                await asyncio.sleep(0)


@asynccontextmanager
async def batching(
    *,
    max_batch_size: int = 8,
    max_queue_size: int = 1000,
    max_queue_delay_seconds: float = 0.005,
    streams: int = 1,
    threads: int = 1,
) -> AsyncIterator[Setup]:
    registry = CollectorRegistry()
    metrics = InferenceMetrics(registry)
    with ThreadPoolExecutor(streams) as model_thread:
        async with DynamicBatcher(
            model_thread,
            Streams(streams, threads),
            max_batch_size=max_batch_size,
            max_queue_size=max_queue_size,
            max_queue_delay_seconds=max_queue_delay_seconds,
            heartbeat=Heartbeat(30),
            tracer=NoOpTracer(),
            metrics=metrics,
        ) as batcher:
            yield Setup(batcher, model_thread, metrics, registry)


async def until(semaphore: threading.Semaphore) -> None:
    """Wait for what another thread releases."""
    assert await asyncio.to_thread(semaphore.acquire, timeout=30)
