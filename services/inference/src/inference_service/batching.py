"""Groups the pictures that wait for a model into batches."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Executor
from enum import IntEnum
from functools import partial
from itertools import chain
from types import TracebackType
from typing import NamedTuple, Self

import torch
from servicekit.logs import get_logger
from torch import Tensor

from inference_service.errors import InferenceFailed, Overloaded, ShuttingDown
from inference_service.metrics import InferenceMetrics
from inference_service.model import Model
from inference_service.timings import StageTimings

log = get_logger(__name__)


class Priority(IntEnum):
    """Who is computed first. Nobody of the later ones is while one of the earlier ones waits."""

    INTERACTIVE = 0
    LOW = 1


class Place:
    """Room in the queue for one request, taken before its pictures are decoded. Left at the end of `with`."""

    def __init__(self, batcher: "DynamicBatcher", rows: int, priority: Priority) -> None:
        self._batcher = batcher
        self.rows = rows
        self.priority = priority

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def leave(self) -> None:
        """Give the room back, where it was not used; more than once is as good as once."""
        self._batcher._leave(self)

    async def infer(self, model: Model, images: Tensor, timings: StageTimings) -> Tensor:
        """Return the logits, float32 [N, classes], of the inputs of `model`, [N, 3, H, W]; N is `rows`.

        Rows keep their order, in however many batches they were. When the caller is cancelled, the
        rows that are not in a batch yet leave the queue at once. To be called once.

        Raises:
            InferenceFailed: the forward pass of a batch with one of the rows raised.
        """
        return await self._batcher._infer(self, model, images, timings)


class DynamicBatcher:
    """Computes the rows of many requests together: one batch at a time, of one model, on `model_thread`.

    A batch starts as soon as the thread is free. It waits for more rows only where some are known to
    come, as their places are taken: until it is full, or its oldest row has waited
    `max_queue_delay_seconds`. `max_queue_size` bounds the rows outside the running batch, those that
    are still decoded among them. Used as `async with`, on the event loop: leaving takes no more
    requests, and answers those that have a place.
    """

    def __init__(
        self,
        model_thread: Executor,
        *,
        max_batch_size: int,
        max_queue_size: int,
        max_queue_delay_seconds: float,
        metrics: InferenceMetrics,
    ) -> None:
        self._model_thread = model_thread
        self._max_batch_size = max_batch_size
        self._max_queue_size = max_queue_size
        self._max_queue_delay_seconds = max_queue_delay_seconds
        self._metrics = metrics
        self._places: set[Place] = set()  # of requests that are not queued yet
        self._queues: tuple[OrderedDict[_Request, None], ...] = tuple(OrderedDict() for _ in Priority)
        self._running: list[_Slice] | None = None
        self._filling: asyncio.TimerHandle | None = None
        self._closing = False
        self._drained = asyncio.Event()
        metrics.show_queue_size(lambda: self.queue_size)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._closing = True
        self._start_next()
        await self._drained.wait()

    @property
    def queue_size(self) -> int:
        """Return the rows that have a place and are in no batch yet."""
        return sum(place.rows for place in self._places) + self._queued_rows

    def take_place(self, rows: int = 1, priority: Priority = Priority.INTERACTIVE) -> Place:
        """Keep room for one request.

        Raises:
            ShuttingDown: no more requests are taken.
            Overloaded: the queue has no room for so many rows.
        """
        if self._closing:
            raise ShuttingDown("the service is shutting down")
        if self.queue_size + rows > self._max_queue_size:
            self._metrics.rejected("queue_full")
            raise Overloaded("the queue is full")
        place = Place(self, rows, priority)
        self._places.add(place)
        return place

    def _leave(self, place: Place) -> None:
        if place in self._places:
            self._places.remove(place)
            self._start_next()  # it may have been the one that a batch waits for

    async def _infer(self, place: Place, model: Model, images: Tensor, timings: StageTimings) -> Tensor:
        assert len(images) == place.rows
        self._places.remove(place)
        request = _Request(model, images, timings)
        queue = self._queues[place.priority]
        queue[request] = None
        self._start_next()
        try:
            return await request.answer
        finally:
            if request in queue:  # the caller has left
                del queue[request]
                self._start_next()

    @property
    def _queued_rows(self) -> int:
        return sum(request.rows_left for request in chain(*self._queues))

    def _start_next(self) -> None:
        """Start a batch where there can be one. Called whenever something has changed."""
        if self._running is not None:
            return
        if self._filling is not None:
            self._filling.cancel()
            self._filling = None
        oldest = next(chain(*self._queues), None)
        if oldest is None:
            if self._closing and not self._places:
                self._drained.set()
            return
        may_wait = oldest.waiting_since + self._max_queue_delay_seconds - time.perf_counter()
        if self._places and may_wait > 0 and self._queued_rows < self._max_batch_size:
            self._filling = asyncio.get_running_loop().call_later(may_wait, self._start_next)
            return
        batch = self._running = self._take_batch(oldest)
        computing = asyncio.get_running_loop().run_in_executor(self._model_thread, _compute, batch)
        computing.add_done_callback(partial(self._finish, batch))

    def _take_batch(self, oldest: "_Request") -> "list[_Slice]":
        """Take rows that go together with those of `oldest` out of the queue, in order."""
        batch: list[_Slice] = []
        room = self._max_batch_size
        for queue in self._queues:
            for request in list(queue):
                if room and request.goes_with(oldest):
                    taken = request.take(room)
                    batch.append(taken)
                    room -= taken.rows
                    if not request.rows_left:
                        del queue[request]
        return batch

    def _finish(self, batch: "list[_Slice]", computing: "asyncio.Future[Sequence[_Answer]]") -> None:
        self._running = None
        if error := computing.exception():
            log.error("batch_failed", rows=sum(part.rows for part in batch), exc_info=error)
            for part in batch:
                part.request.fail(error)
                for queue in self._queues:
                    queue.pop(part.request, None)
        elif answers := computing.result():
            self._metrics.batch_computed(sum(len(answer.logits) for answer in answers))
            for answer in answers:
                answer.request.add(answer.logits)
        self._start_next()


class _Request:
    """The inputs of one request, and what is known of their logits."""

    def __init__(self, model: Model, images: Tensor, timings: StageTimings) -> None:
        self.model = model
        self.images = images
        self.timings = timings
        self.waiting_since = time.perf_counter()
        self.answer: asyncio.Future[Tensor] = asyncio.get_running_loop().create_future()
        self._taken = 0
        self._logits: list[Tensor] = []

    @property
    def rows_left(self) -> int:
        """Return how many rows are in no batch yet."""
        return len(self.images) - self._taken

    def goes_with(self, other: "_Request") -> bool:
        """Tell whether rows of both can be in one batch."""
        one, two = self.images, other.images
        return self.model is other.model and one.shape[1:] == two.shape[1:] and one.dtype == two.dtype

    def take(self, most: int) -> "_Slice":
        """Take up to `most` rows, in order."""
        start = self._taken
        self._taken = min(start + most, len(self.images))
        return _Slice(self, start, self._taken)

    def add(self, logits: Tensor) -> None:
        """Add the logits of the next rows; those of the last ones make the answer."""
        self._logits.append(logits)
        if not self.answer.done() and sum(map(len, self._logits)) == len(self.images):
            self.answer.set_result(_joined(self._logits))

    def fail(self, cause: BaseException) -> None:
        """Make it known that there will be no answer."""
        if not self.answer.done():
            failure = InferenceFailed("the model failed on this batch")
            failure.__cause__ = cause
            self.answer.set_exception(failure)


class _Slice(NamedTuple):
    """Rows of a request that are in one batch."""

    request: _Request
    start: int
    stop: int

    @property
    def rows(self) -> int:
        return self.stop - self.start


class _Answer(NamedTuple):
    request: _Request
    logits: Tensor


def _compute(batch: list[_Slice]) -> Sequence[_Answer]:
    """Run the forward pass, on the model thread, for those who are still there when it starts."""
    parts = [part for part in batch if not part.request.answer.done()]
    if not parts:
        return ()
    started = time.perf_counter()
    for request, _, _ in parts:
        request.timings.add("queue", started - request.waiting_since)
    images = _joined([part.request.images[part.start : part.stop] for part in parts])
    logits = parts[0].request.model.forward(images)
    if len(logits) != len(images):
        raise ValueError(f"{len(logits)} rows of logits for {len(images)} pictures")
    ended = time.perf_counter()
    for request, _, _ in parts:
        request.timings.add("compute", ended - started)
        request.waiting_since = ended
    shares = torch.split(logits, [part.rows for part in parts])
    return [_Answer(part.request, share) for part, share in zip(parts, shares, strict=True)]


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))
