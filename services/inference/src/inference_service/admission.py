"""Who is let in: nobody whose answer would come too late, and no more bytes than there is room for."""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from inference_service.batch_times import MovingAverage
from inference_service.batching import DynamicBatcher, Place, Priority
from inference_service.errors import Overloaded
from inference_service.metrics import InferenceMetrics
from inference_service.model import Model
from inference_service.patience import Patience

MARGIN = 1.2
"""Times how long an answer is expected to take: it may come later."""

MAX_RETRY_SECONDS = 60


class Admission:
    """Lets a request in when its answer is expected before its caller gives up.

    A caller may say how long it waits, as `timeout_seconds`. One who does not gets its answer within
    `default_timeout_seconds`, and is let in only where callers like it have waited for as long as that is to take.
    """

    def __init__(
        self,
        batcher: DynamicBatcher,
        *,
        decode_threads: int,
        default_timeout_seconds: float,
        metrics: InferenceMetrics,
    ) -> None:
        self.batcher = batcher
        self._decode_threads = decode_threads
        self._decode_seconds: MovingAverage | None = None
        self._default_timeout_seconds = default_timeout_seconds
        self._patience = tuple(Patience() for _ in Priority)
        self._metrics = metrics

    def admit(self, model: Model, *, rows: int = 1, priority: Priority, timeout_seconds: float | None) -> Place:
        """Take a place in the queue.

        Raises:
            Overloaded: the answer would come too late, or the queue is full.
            ShuttingDown: no more requests are taken.
        """
        self.check(model, rows=rows, priority=priority, timeout_seconds=timeout_seconds)
        return self.batcher.take_place(model, rows=rows, priority=priority)

    def check(self, model: Model, *, rows: int = 1, priority: Priority, timeout_seconds: float | None) -> None:
        """Turn away who would wait in vain.

        Raises:
            Overloaded: the answer would come too late; it says when to try again.
        """
        if self.batcher.is_idle:
            return  # whatever was measured: only who is let in can show that it is over
        expected = self._expected_seconds(model, rows, priority) * MARGIN
        limit, reason = self.seconds_for(timeout_seconds), "{:g} s were given"
        if timeout_seconds is None and (patience := self._patience[priority].seconds) < limit:
            limit, reason = patience, "callers leave after {:.1f} s, where they do not say how long they wait"
        if expected > limit:
            self._metrics.rejected("too_late")
            raise Overloaded(
                f"the answer would take {expected:.1f} s, and {reason.format(limit)}",
                retry_after_seconds=max(1, min(MAX_RETRY_SECONDS, math.ceil(expected - limit))),
            )

    def seconds_for(self, timeout_seconds: float | None) -> float:
        """Return how long an answer may take at most."""
        return self._default_timeout_seconds if timeout_seconds is None else timeout_seconds

    def waiting(self, *, priority: Priority, timeout_seconds: float | None) -> AbstractContextManager[None]:
        """Return a context that learns, while a caller waits who has set no timeout, how long it does."""
        return self._patience[priority].following() if timeout_seconds is None else nullcontext()

    def decoded(self, seconds: float) -> None:
        """Take in what one picture took on its way to the input of a model."""
        if self._decode_seconds is None:
            self._decode_seconds = MovingAverage(seconds)
        else:
            self._decode_seconds.add(seconds)

    def _expected_seconds(self, model: Model, rows: int, priority: Priority) -> float:
        """Return the time to an answer: pictures are decoded while those before them are computed."""
        computed = self.batcher.expected_seconds(model, rows, priority)
        if self._decode_seconds is None:
            return computed
        turns = math.ceil((self.batcher.rows_on_their_way + rows) / self._decode_threads)
        return max(computed, turns * self._decode_seconds.value)


class BodyBudget:
    """The bytes of all bodies that are held in memory."""

    def __init__(self, max_bytes: int, metrics: InferenceMetrics) -> None:
        self._max_bytes = max_bytes
        self._metrics = metrics
        self._held_bytes = 0

    @contextmanager
    def hold(self, declared_bytes: int) -> Iterator[Callable[[int], None]]:
        """Yield what is told of the size of each chunk of one body; its bytes are given back at the end.

        Only what has come is counted: who promises much and sends little keeps nobody out.

        Raises:
            Overloaded: there is no room for a body of the declared size, or for the next chunk.
        """
        held = 0

        def add(size: int) -> None:
            nonlocal held
            self._require_room(size)
            self._count(size)
            held += size

        self._require_room(declared_bytes)
        try:
            yield add
        finally:
            self._count(-held)

    def _require_room(self, size: int) -> None:
        if self._held_bytes + size > self._max_bytes:
            self._metrics.rejected("body_bytes")
            raise Overloaded("there is no room for more pictures")

    def _count(self, size: int) -> None:
        self._held_bytes += size
        self._metrics.body_bytes.set(self._held_bytes)
