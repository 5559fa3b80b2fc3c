"""The last traces, as services send them by OTLP: so many, and of each so many spans."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from pydantic import BaseModel

NANOSECONDS = 1_000_000_000


class ShownSpan(BaseModel):
    """One span; its ids are in hexadecimal, and its times are in seconds since 1970."""

    id: str
    parent_id: str
    service: str
    name: str
    started_at: float
    duration_seconds: float
    failed: bool
    attributes: dict[str, str]
    links: list[str]
    """Ids of the spans that it names."""


class Summary(BaseModel):
    """One trace, in a line."""

    id: str
    name: str
    """What its first span is named."""

    service: str
    started_at: float
    duration_seconds: float
    spans: int
    failed: bool


class TraceBook:
    """Keeps the `max_traces` traces that began last, and of each the `max_spans` spans that came first."""

    def __init__(self, *, max_traces: int, max_spans: int) -> None:
        self._max_traces = max_traces
        self._max_spans = max_spans
        self._traces: OrderedDict[str, dict[str, ShownSpan]] = OrderedDict()

    def add(self, request: ExportTraceServiceRequest) -> None:
        """Keep what one message brings."""
        for resource_spans in request.resource_spans:
            service = _texts(resource_spans.resource.attributes).get("service.name", "unknown")
            for scope_spans in resource_spans.scope_spans:
                for span in scope_spans.spans:
                    self._keep(span.trace_id.hex(), _shown(span, service))
        while len(self._traces) > self._max_traces:
            self._traces.popitem(last=False)

    def summaries(self) -> Sequence[Summary]:
        """Return a line for each trace, the last one first."""
        return [_summary(trace_id, list(spans.values())) for trace_id, spans in reversed(self._traces.items())]

    def spans(self, trace_id: str) -> Sequence[ShownSpan]:
        """Return the spans of a trace in the order of their start; none where it is not known."""
        return sorted(self._traces.get(trace_id, {}).values(), key=lambda span: span.started_at)

    def _keep(self, trace_id: str, span: ShownSpan) -> None:
        spans = self._traces.setdefault(trace_id, {})
        if len(spans) < self._max_spans:
            spans[span.id] = span


def _summary(trace_id: str, spans: Sequence[ShownSpan]) -> Summary:
    ids = {span.id for span in spans}
    first = min(spans, key=lambda span: (span.parent_id in ids, span.started_at))
    ended_at = max(span.started_at + span.duration_seconds for span in spans)
    return Summary(
        id=trace_id,
        name=first.name,
        service=first.service,
        started_at=first.started_at,
        duration_seconds=ended_at - first.started_at,
        spans=len(spans),
        failed=any(span.failed for span in spans),
    )


def _shown(span: Span, service: str) -> ShownSpan:
    return ShownSpan(
        id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        service=service,
        name=span.name,
        started_at=span.start_time_unix_nano / NANOSECONDS,
        duration_seconds=(span.end_time_unix_nano - span.start_time_unix_nano) / NANOSECONDS,
        failed=span.status.code == Status.STATUS_CODE_ERROR,
        attributes=_texts(span.attributes),
        links=[link.span_id.hex() for link in span.links],
    )


def _texts(attributes: Iterable[KeyValue]) -> dict[str, str]:
    return {pair.key: _text(pair.value) for pair in attributes}


def _text(value: AnyValue) -> str:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return ", ".join(_text(item) for item in value.array_value.values)
    return str(getattr(value, kind)) if kind else ""
