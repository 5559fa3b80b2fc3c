"""Where the time of one request goes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Literal, Self, get_args

from opentelemetry import context, trace
from opentelemetry.trace import SpanContext, Tracer

from inference_service.spans import Links, StageSpans

Stage = Literal["receive", "decode", "preprocess", "queue", "compute", "postprocess"]
STAGES: tuple[Stage, ...] = get_args(Stage)
"""In the order of a request. `queue` is all waiting for a thread: to decode and to compute."""


class StageTimings:
    """The seconds that one request has spent in each stage; threads may add to it.

    With a `tracer`, used as `with`: each stage is a span below the one that ran when this was made.
    """

    def __init__(self, tracer: Tracer | None = None) -> None:
        self._seconds: dict[Stage, float] = {}
        self._context = context.get_current()
        is_traced = tracer is not None and self.span_context.trace_flags.sampled
        self._spans = StageSpans(tracer, self.span_context) if tracer is not None and is_traced else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._spans is not None:
            self._spans.end()

    @property
    def span_context(self) -> SpanContext:
        """Return the span that the stages are below; an invalid one where nothing is traced."""
        return trace.get_current_span(self._context).get_span_context()

    @contextmanager
    def measure(self, stage: Stage) -> Iterator[None]:
        """Add the time that the block takes, also where it fails."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - started)

    def add(self, stage: Stage, seconds: float, *, links: Links = tuple) -> None:
        """Add to one stage what has just passed; its span names what `links` returns."""
        self._seconds[stage] = self._seconds.get(stage, 0.0) + seconds
        if self._spans is not None:
            self._spans.add(stage, seconds, links)

    def beside(self) -> Self:
        """Return a clock of another picture of the same request."""
        other = type(self)()
        other._spans = self._spans
        return other

    def take_longest(self, *others: Self) -> None:
        """Make each stage as long as the longest, of what went on at the same time."""
        for other in others:
            for stage, seconds in other.seconds().items():
                self._seconds[stage] = max(seconds, self._seconds.get(stage, 0.0))

    def seconds(self) -> dict[Stage, float]:
        """Map each stage that was reached to its time."""
        return {stage: self._seconds[stage] for stage in STAGES if stage in self._seconds}
