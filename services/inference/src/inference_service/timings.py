"""Where the time of one request goes."""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Literal, NamedTuple, Self, get_args

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanContext, Tracer

Stage = Literal["receive", "decode", "preprocess", "queue", "compute", "postprocess"]
STAGES: tuple[Stage, ...] = get_args(Stage)
"""In the order of a request. `queue` is all waiting for a thread: to decode and to compute."""


class StageTimings:
    """The seconds that one request has spent in each stage; threads may add to it.

    With a `tracer`, used as `with`: each stage is a span below the one that ran when this was made. The spans
    are made at the end, when the answer is on its way, for that takes longer than some of the stages.
    """

    def __init__(self, tracer: Tracer | None = None) -> None:
        self._seconds: dict[Stage, float] = {}
        self._context = context.get_current()
        is_traced = tracer is not None and self.span_context.trace_flags.sampled
        self._spans = _StageSpans(tracer, self._context) if tracer is not None and is_traced else None

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

    def add(self, stage: Stage, seconds: float, *, links: Sequence[Link] = ()) -> None:
        """Add to one stage what has just passed; its span names `links`."""
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


class _Passed(NamedTuple):
    """A stage that is over."""

    stage: Stage
    started_ns: int
    ended_ns: int
    links: Sequence[Link]


class _StageSpans:
    """What the spans of one request will be made of."""

    def __init__(self, tracer: Tracer, parent: Context) -> None:
        self._tracer = tracer
        self._parent = parent
        self._passed: deque[_Passed] = deque()
        self._has_ended = False

    def add(self, stage: Stage, seconds: float, links: Sequence[Link]) -> None:
        ended = time.time_ns()
        self._passed.append(_Passed(stage, ended - int(seconds * 1e9), ended, links))
        if self._has_ended:  # its caller has left, and others wait for the same answer
            self.end()

    def end(self) -> None:
        """Make the spans of what has passed; from now on each is made at once."""
        self._has_ended = True
        while self._passed:
            stage, started, ended, links = self._passed.popleft()
            self._tracer.start_span(stage, self._parent, start_time=started, links=links).end(ended)
