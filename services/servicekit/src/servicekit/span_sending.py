"""How spans leave a process: beside its work, from a queue, and with a count of those that do not arrive."""

import threading
from collections.abc import Callable, Sequence

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from prometheus_client import CollectorRegistry, Counter

from servicekit.logs import get_logger

log = get_logger(__name__)


class SpanOutcomes:
    """Counts what becomes of spans."""

    def __init__(self, registry: CollectorRegistry) -> None:
        counter = Counter(
            "telemetry_spans",
            "Spans by what came of them: exported, failed at the receiver, or dropped where the queue was full.",
            ["outcome"],
            registry=registry,
        )
        self.exported, self.failed, self.dropped = map(counter.labels, ("exported", "failed", "dropped"))


class SpanQueue(BatchSpanProcessor):
    """Keeps the spans that have ended until they are sent, and drops those for which it has no room.

    The queue of the SDK drops as well, and says that to nobody: here it is never full.
    """

    def __init__(self, exporter: SpanExporter, outcomes: SpanOutcomes, *, max_size: int) -> None:
        self._outcomes = outcomes
        self._room = self._max_size = max_size
        self._counting = threading.Lock()
        self._has_dropped = False
        super().__init__(_Reported(exporter, outcomes, self._make_room), max_queue_size=max_size)

    def on_end(self, span: ReadableSpan) -> None:
        """Take in a span that has ended, or count it as dropped."""
        if not span.context.trace_flags.sampled:
            return
        with self._counting:
            has_room = self._room > 0
            self._room -= has_room
        if has_room:
            super().on_end(span)
            return
        self._outcomes.dropped.inc()
        if not self._has_dropped:
            self._has_dropped = True
            log.warning("spans_dropped", queue_size=self._max_size)

    def _make_room(self, spans: int) -> None:
        with self._counting:
            self._room += spans
            if self._room == self._max_size:  # it was emptied: what is dropped from now on is news
                self._has_dropped = False


class _Reported(SpanExporter):
    """Says once that the receiver is lost, and once that it is back."""

    def __init__(self, exporter: SpanExporter, outcomes: SpanOutcomes, taken: Callable[[int], None]) -> None:
        self._exporter = exporter
        self._outcomes = outcomes
        self._taken = taken
        self._is_reached = True

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._taken(len(spans))
        cause: Exception | None = None
        try:
            result = self._exporter.export(spans)
        except Exception as error:  # the thread that sends goes on, and what it took is lost
            result, cause = SpanExportResult.FAILURE, error
        is_reached = result is SpanExportResult.SUCCESS
        (self._outcomes.exported if is_reached else self._outcomes.failed).inc(len(spans))
        if is_reached is not self._is_reached:
            self._is_reached = is_reached
            if is_reached:
                log.info("traces_regained")
            else:
                log.warning("traces_lost", exc_info=cause)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()
