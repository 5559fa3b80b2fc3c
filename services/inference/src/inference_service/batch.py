"""One batch: rows of several requests, through the forward pass and back to where they came from."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Self

import torch
from opentelemetry.trace import Tracer
from torch import Tensor

from inference_service.errors import InferenceFailed
from inference_service.model import Model
from inference_service.spans import BatchSpan
from inference_service.timings import StageTimings


class QueuedRequest:
    """The inputs of one request, and what is known of their logits."""

    def __init__(
        self, model: Model, images: Tensor, timings: StageTimings, forward: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        self.model = model
        self.forward = forward or model.forward
        self.is_plain = forward is None
        self.images = images
        self.timings = timings
        self.rows_left = images.shape[0]
        """How many rows are in no batch yet."""

        self.waiting_since = time.perf_counter()
        self.answer: asyncio.Future[Tensor] = asyncio.get_running_loop().create_future()
        self._logits: dict[int, Tensor] = {}

    def goes_with(self, other: Self) -> bool:
        """Tell whether rows of both can be in one batch."""
        one, two = self.images, other.images
        are_alike = self is other or (self.is_plain and other.is_plain)
        return are_alike and self.model is other.model and one.shape[1:] == two.shape[1:] and one.dtype == two.dtype

    def take(self, most: int) -> "Part":
        """Take up to `most` rows, in order."""
        start = self.images.shape[0] - self.rows_left
        rows = min(most, self.rows_left)
        self.rows_left -= rows
        return Part(self, start, start + rows)

    def add(self, start: int, logits: Tensor) -> None:
        """Add the logits of the rows from `start` on; when all are there they make the answer."""
        self._logits[start] = logits
        if not self.answer.done() and sum(map(len, self._logits.values())) == len(self.images):
            self.answer.set_result(_joined([self._logits[start] for start in sorted(self._logits)]))

    def fail(self, cause: BaseException) -> None:
        """Make it known that there will be no answer."""
        if not self.answer.done():
            failure = InferenceFailed("the model failed on this batch")
            failure.__cause__ = cause
            self.answer.set_exception(failure)


class Part(NamedTuple):
    """Rows of a request that are in one batch."""

    request: QueuedRequest
    start: int
    stop: int

    @property
    def rows(self) -> int:
        """Return how many pictures these are."""
        return self.stop - self.start


class Computed(NamedTuple):
    """What came of a batch: nothing where everybody had left."""

    answers: Sequence[tuple[Part, Tensor]] = ()
    """The logits of each part."""

    seconds: float = 0.0

    @property
    def rows(self) -> int:
        """Return how many pictures were computed."""
        return sum(part.rows for part, _ in self.answers)


def compute(batch: Sequence[Part], tracer: Tracer) -> Computed:
    """Run the forward pass, on a model thread, for those who are still there when it starts.

    The span `batch` and the span `compute` of each request name each other.
    """
    parts = [part for part in batch if not part.request.answer.done()]
    if not parts:
        return Computed()
    started = time.perf_counter()
    for request, _, _ in parts:
        request.timings.add("queue", started - request.waiting_since)
    requests = [part.request.timings.span_context for part in parts]
    with BatchSpan(requests, rows=sum(part.rows for part in parts), tracer=tracer) as span:
        images = _joined([part.request.images[part.start : part.stop] for part in parts])
        logits = parts[0].request.forward(images)
        if len(logits) != len(images):
            raise ValueError(f"{len(logits)} rows of logits for {len(images)} pictures")
    ended = time.perf_counter()
    for request, _, _ in parts:
        request.timings.add("compute", ended - started, links=span.links)
        request.waiting_since = ended
    shares = torch.split(logits, [part.rows for part in parts])
    return Computed(list(zip(parts, shares, strict=True)), ended - started)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))
