"""The spans of stages and batches, made when the answers are on their way: that takes longer than some stages do."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import NamedTuple, Self

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, StatusCode, Tracer

Links = Callable[[], Sequence[Link]]


class _Passed(NamedTuple):
    """A stage that is over."""

    stage: str
    started_ns: int
    ended_ns: int
    links: Links


class StageSpans:
    """What the spans of one request's stages will be made of; threads may add to it."""

    def __init__(self, tracer: Tracer, parent: Context) -> None:
        self._tracer = tracer
        self._parent = parent
        self._passed: deque[_Passed] = deque()
        self._has_ended = False

    def add(self, stage: str, seconds: float, links: Links) -> None:
        """Take in a stage that has just passed; its span will name `links`."""
        ended = time.time_ns()
        self._passed.append(_Passed(stage, ended - int(seconds * 1e9), ended, links))
        if self._has_ended:  # its caller has left, and others wait for the same answer
            self.end()

    def end(self) -> None:
        """Make the spans of what has passed; from now on each is made at once."""
        self._has_ended = True
        while True:
            try:
                stage, started, ended, links = self._passed.popleft()
            except IndexError:  # all are taken; asked beforehand, another thread may take the last meanwhile
                return
            self._tracer.start_span(stage, self._parent, start_time=started, links=links()).end(ended)


class BatchSpan:
    """The span of what the `with` block does: below the first request that is traced, with a link to each of those."""

    def __init__(self, requests: Sequence[SpanContext], *, rows: int, tracer: Tracer) -> None:
        # Once each: a request may have several pictures in a batch.
        self._traced = list({request.span_id: request for request in requests if request.trace_flags.sampled}.values())
        self._rows = rows
        self._tracer = tracer
        self._started_ns = self._ended_ns = time.time_ns()
        self._links: Sequence[Link] = ()
        self._making = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._ended_ns = time.time_ns()
        if error is not None and self._traced:
            span = self._start()
            span.record_exception(error)
            span.set_status(StatusCode.ERROR)
            span.end(self._ended_ns)

    def links(self) -> Sequence[Link]:
        """Return what names it, for the spans of its requests; the first of them lets it be made."""
        with self._making:
            if self._traced and not self._links:
                span = self._start()
                span.end(self._ended_ns)
                self._links = [Link(span.get_span_context())]
        return self._links

    def _start(self) -> Span:
        return self._tracer.start_span(
            "batch",
            trace.set_span_in_context(NonRecordingSpan(self._traced[0])),
            attributes={"inference.batch_size": self._rows},
            links=[Link(request) for request in self._traced],
            start_time=self._started_ns,
        )
