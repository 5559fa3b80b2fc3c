"""The spans of stages and batches, made when the answers are on their way: that takes longer than some stages do."""

import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import NamedTuple, Self

from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace import Tracer as SdkTracer
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, Status, StatusCode, Tracer
from opentelemetry.util.types import Attributes

Links = Callable[[], Sequence[Link]]

_SCOPE = InstrumentationScope("pinhole")


class _Passed(NamedTuple):
    """A stage that is over."""

    stage: str
    started_ns: int
    ended_ns: int
    links: Links


class StageSpans:
    """What the spans of one request's stages will be made of; threads may add to it."""

    def __init__(self, tracer: Tracer, parent: SpanContext) -> None:
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
            tell_span(self._tracer, stage, self._parent, started, ended, links=links())


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
            self._make(error)

    def links(self) -> Sequence[Link]:
        """Return what names it, for the spans of its requests; the first of them lets it be made."""
        with self._making:
            if self._traced and not self._links:
                self._links = [Link(self._make())]
        return self._links

    def _make(self, error: BaseException | None = None) -> SpanContext:
        return tell_span(
            self._tracer,
            "batch",
            self._traced[0],
            self._started_ns,
            self._ended_ns,
            attributes={"inference.batch_size": self._rows},
            links=[Link(request) for request in self._traced],
            error=error,
        )


def tell_span(
    tracer: Tracer,
    name: str,
    parent: SpanContext,
    started_ns: int,
    ended_ns: int,
    *,
    attributes: Attributes = None,
    links: Sequence[Link] = (),
    error: BaseException | None = None,
) -> SpanContext:
    """Hand over a span that is past, below one that is sampled, and return what names it.

    The tracer would make one that may still change, with a lock and bounds, and ask the sampler what its parent
    says already: that takes ten times as long, and a prediction has eight of these.
    """
    if not isinstance(tracer, SdkTracer):
        return parent  # nothing is traced here, whatever the caller has said of its own span
    span_id = tracer.id_generator.generate_span_id()
    context = SpanContext(parent.trace_id, span_id, False, parent.trace_flags, parent.trace_state)
    span = ReadableSpan(
        name,
        context,
        parent,
        tracer.resource,
        attributes,
        () if error is None else (_exception(error, ended_ns),),
        links,
        status=Status(StatusCode.UNSET if error is None else StatusCode.ERROR),
        start_time=started_ns,
        end_time=ended_ns,
        instrumentation_scope=_SCOPE,
    )
    tracer.span_processor.on_end(span)
    return context


def _exception(error: BaseException, raised_ns: int) -> Event:
    attributes = {
        "exception.type": type(error).__qualname__,
        "exception.message": str(error),
        "exception.stacktrace": "".join(traceback.format_exception(error)),
    }
    return Event("exception", attributes, raised_ns)
