"""Spans on their way to the receiver, and those that do not arrive."""

import json
import threading
from collections.abc import Callable, Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import Tracer
from prometheus_client import CollectorRegistry
from servicekit.logs import configure_logs
from servicekit.span_sending import SpanOutcomes, SpanQueue

QUEUED = 4


class Gated(SpanExporter):
    """Takes spans when it is let, or raises."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()
        self.error: Exception | None = None

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.entered.set()
        assert self.opened.wait(30)
        if self.error is not None:
            raise self.error
        return SpanExportResult.SUCCESS


class Sending:
    """A tracer whose spans go through a short queue, one by one, to an exporter that waits."""

    def __init__(self) -> None:
        self.exporter = Gated()
        self._registry = CollectorRegistry()
        self._provider = TracerProvider(shutdown_on_exit=False)
        self._provider.add_span_processor(SpanQueue(self.exporter, SpanOutcomes(self._registry), max_size=QUEUED))
        self.tracer: Tracer = self._provider.get_tracer("tests")

    def end_spans(self, number: int) -> None:
        for _ in range(number):
            self.tracer.start_span("ended").end()

    def flush(self) -> None:
        """Send what there is."""
        self.exporter.opened.set()
        self._provider.force_flush()

    def finish(self) -> dict[str, float | None]:
        """Send what is left, and return how many spans had which outcome."""
        self.exporter.opened.set()
        self._provider.shutdown()
        return {
            outcome: self._registry.get_sample_value("telemetry_spans_total", {"outcome": outcome})
            for outcome in ("exported", "failed", "dropped")
        }


@pytest.fixture
def sending(monkeypatch: pytest.MonkeyPatch) -> Sending:
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1")
    return Sending()


@pytest.fixture
def start_logs(capsys: pytest.CaptureFixture[str], restored_logging: None) -> Callable[[], Callable[[], list[str]]]:
    """Return what a test calls to log as JSON; that returns a function which gives the events since."""

    def start() -> Callable[[], list[str]]:
        configure_logs("sample", level="INFO", format="json")
        return lambda: [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()]

    return start


def test_spans_for_which_the_queue_has_no_room_are_counted_and_reported_once(
    sending: Sending, start_logs: Callable[[], Callable[[], list[str]]]
) -> None:
    events = start_logs()
    sending.end_spans(1)
    assert sending.exporter.entered.wait(30)  # it has left the queue
    sending.end_spans(QUEUED + 3)
    assert sending.finish() == {"exported": 1 + QUEUED, "failed": 0, "dropped": 3}
    assert events() == ["spans_dropped"]


def test_spans_whose_exporter_raises_are_counted_and_reported_once(
    sending: Sending, start_logs: Callable[[], Callable[[], list[str]]]
) -> None:
    events = start_logs()
    sending.exporter.error = RuntimeError("a bug of the exporter")
    sending.end_spans(3)
    assert sending.finish() == {"exported": 0, "failed": 3, "dropped": 0}
    assert events() == ["traces_lost"]


def test_a_queue_that_was_full_takes_spans_again(sending: Sending) -> None:
    sending.end_spans(1)
    assert sending.exporter.entered.wait(30)
    sending.end_spans(QUEUED + 1)
    sending.flush()
    sending.end_spans(QUEUED)
    assert sending.finish() == {"exported": 1 + 2 * QUEUED, "failed": 0, "dropped": 1}
