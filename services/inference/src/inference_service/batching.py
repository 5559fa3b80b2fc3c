"""Groups the pictures that wait for a model into batches."""

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from concurrent.futures import Executor, Future
from enum import IntEnum
from itertools import chain, starmap
from types import TracebackType
from typing import Self

from opentelemetry.trace import Tracer
from servicekit.logs import get_logger
from torch import Tensor

from inference_service.batch import Computed, Part, QueuedRequest, compute
from inference_service.batch_times import BatchTimes
from inference_service.cpu import use_threads
from inference_service.errors import Overloaded, ShuttingDown
from inference_service.heartbeat import Heartbeat
from inference_service.metrics import InferenceMetrics
from inference_service.model import Model
from inference_service.streams import RunningBatch, Streams
from inference_service.timings import StageTimings

log = get_logger(__name__)


MOST_PASSED_OVER = 8
"""How many batches in a row may leave out the waiting requests of the last priority: the next begins with one."""


class Priority(IntEnum):
    """Who is computed first."""

    INTERACTIVE = 0
    LOW = 1


class Place:
    """Room in the queue for one request, taken before its pictures are decoded. Left at the end of `with`."""

    def __init__(self, batcher: "DynamicBatcher", model: Model, rows: int, priority: Priority) -> None:
        self._batcher = batcher
        self.model = model
        self.rows = rows
        self.priority = priority

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def leave(self) -> None:
        """Give the room back, where it was not used; it may be called more than once."""
        self._batcher._leave(self)

    async def infer(
        self, images: Tensor, timings: StageTimings, forward: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor:
        """Return the logits, float32 [N, classes], of inputs of the model, [N, 3, H, W]; N is `rows`.

        With `forward`, which is called in place of that of the model, the rows are alone in their batches.

        Rows keep their order, in however many batches they were. When the caller is cancelled, the
        rows that are not in a batch yet leave the queue at once. To be called once.

        Raises:
            InferenceFailed: the forward pass of a batch with one of the rows raised.
        """
        return await self._batcher._infer(self, QueuedRequest(self.model, images, timings, forward))


class DynamicBatcher:
    """Computes the rows of many requests together, in batches of one model, on `model_threads`: one for each stream.

    A batch starts as soon as a stream is free. It waits for more rows only where some are known to
    come, as their places are taken: until it is full, or its oldest row has waited
    `max_queue_delay_seconds`. `max_queue_size` bounds the rows outside the running batches, those that
    are still decoded among them. Used as `async with`, on the event loop: leaving takes no more
    requests, and answers those that have a place.
    """

    def __init__(
        self,
        model_threads: Executor,
        streams: Streams,
        *,
        max_batch_size: int,
        max_queue_size: int,
        max_queue_delay_seconds: float,
        heartbeat: Heartbeat,
        metrics: InferenceMetrics,
        tracer: Tracer,
    ) -> None:
        self._model_threads = model_threads
        self._streams = streams
        self.max_batch_size = max_batch_size
        self._max_queue_size = max_queue_size
        self._max_queue_delay_seconds = max_queue_delay_seconds
        self._heartbeat = heartbeat
        self._metrics = metrics
        self._tracer = tracer
        self._places: set[Place] = set()  # of requests that are not queued yet
        self._queues: tuple[OrderedDict[QueuedRequest, None], ...] = tuple(OrderedDict() for _ in Priority)
        self._times = BatchTimes(max_batch_size)
        self._passed_over = 0  # batches since a row of the last priority that waits was taken
        self._filling: asyncio.TimerHandle | None = None
        self._closing = False
        self._drained = asyncio.Event()

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
        return self.rows_on_their_way + self._queued_rows

    @property
    def rows_on_their_way(self) -> int:
        """Return the rows that have a place and are still being decoded."""
        return sum(place.rows for place in self._places)

    @property
    def is_idle(self) -> bool:
        """Tell whether there is nothing to do, and nothing known to come."""
        return self._streams.are_idle and not self.queue_size

    def silent_seconds(self, model: Model | None = None) -> float:
        """Return how long ago a batch of `model`, or of any, was computed; infinite where none was."""
        return self._times.silent_seconds(model)

    def expected_seconds(self, model: Model, rows: int, priority: Priority) -> float:
        """Return how long rows that came now would take to their answer, by what batches have taken.

        For a model that was idle for long only the work ahead counts: its own times may be out of date, and only a
        request that is let in can correct them.
        """
        ahead: Counter[Model] = Counter()
        for place in self._places:
            if place.priority <= priority:
                ahead[place.model] += place.rows
        for queue in self._queues[: priority + 1]:
            for request in queue:
                ahead[request.model] += request.rows_left
        if ahead[model] or not self._times.are_old(model):
            ahead[model] += rows
        seconds = self._streams.seconds_left() + sum(starmap(self._times.expected_seconds, ahead.items()))
        if self._streams.are_shared or ahead.total() > self.max_batch_size:
            # Its own batch has the threads of one stream, and may be full by then: it takes longer than its share.
            own = self._times.expected_seconds(model, min(ahead[model], self.max_batch_size))
            seconds += (self._streams.count - 1) * own
        return seconds

    def take_place(self, model: Model, *, rows: int = 1, priority: Priority = Priority.INTERACTIVE) -> Place:
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
        place = Place(self, model, rows, priority)
        self._places.add(place)
        self._metrics.queue_size.set(self.queue_size)
        return place

    def _leave(self, place: Place) -> None:
        if place in self._places:
            self._places.remove(place)
            self._start_next()  # it may have been the one that a batch waits for

    async def _infer(self, place: Place, request: QueuedRequest) -> Tensor:
        assert len(request.images) == place.rows
        self._places.remove(place)
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
        """Start what batches there can be. Called whenever something has changed."""
        while not self._streams.are_taken and self._start_batch():
            pass
        self._metrics.queue_size.set(self.queue_size)

    def _start_batch(self) -> bool:
        """Start a batch and return true, where there is one that need not wait."""
        if self._filling is not None:
            self._filling.cancel()
            self._filling = None
        heads = [next(iter(queue)) for queue in self._queues if queue]
        if not heads:
            if self._closing and not self._places and self._streams.are_idle:
                self._drained.set()
            return False
        oldest = heads[-1] if self._passed_over >= MOST_PASSED_OVER else heads[0]
        may_wait = oldest.waiting_since + self._max_queue_delay_seconds - time.perf_counter()
        if self._places and may_wait > 0 and self._queued_rows < self.max_batch_size:
            self._filling = asyncio.get_running_loop().call_later(may_wait, self._start_next)
            return False
        parts = self._take_batch(oldest)
        is_passed_over = len(heads) > 1 and all(part.request is not heads[-1] for part in parts)
        self._passed_over = self._passed_over + 1 if is_passed_over else 0
        seconds = self._times.expected_seconds(oldest.model, sum(part.rows for part in parts))
        batch = self._streams.start(parts, seconds, alone=not any(self._queues))
        computing = self._model_threads.submit(self._compute, batch)
        loop = asyncio.get_running_loop()
        # Not `run_in_executor`, whose future takes one more turn of the loop.
        computing.add_done_callback(lambda computed: loop.call_soon_threadsafe(self._finish, batch, computed))
        return True

    def _take_batch(self, oldest: QueuedRequest) -> list[Part]:
        """Take `oldest`, and what goes together with it, out of the queue: by priority, then in order."""
        batch: list[Part] = []
        room = self.max_batch_size
        for request in [oldest, *chain(*self._queues)]:
            if room and request.rows_left and request.goes_with(oldest):
                taken = request.take(room)
                batch.append(taken)
                room -= taken.rows
        for queue in self._queues:
            for request in [request for request in queue if not request.rows_left]:
                del queue[request]
        return batch

    def _compute(self, batch: RunningBatch) -> Computed:
        use_threads(batch.threads)
        with self._heartbeat.batch():
            return compute(batch.parts, self._tracer)

    def _finish(self, batch: RunningBatch, computing: Future[Computed]) -> None:
        self._streams.end(batch)
        first = batch.parts[0].request
        if error := computing.exception():
            log.error("batch_failed", rows=sum(part.rows for part in batch.parts), exc_info=error)
            for part in batch.parts:
                part.request.fail(error)
                for queue in self._queues:
                    queue.pop(part.request, None)
        elif (computed := computing.result()).answers:
            if first.is_plain:
                self._metrics.batch_computed(first.model, computed.rows, computed.seconds, share=batch.share)
                self._times.add(first.model, computed.rows, computed.seconds * batch.share)
            for part, logits in computed.answers:
                part.request.add(part.start, logits)
        self._start_next()
