"""Takes what services send by OTLP, over HTTP and gRPC, and keeps it."""

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from tests.http_server import QuietHandler, serving


@dataclass(frozen=True)
class ReceivedSpan:
    """One span, with its ids in hexadecimal; `parent_id` is empty for the first of a trace."""

    service: str
    instance: str
    """Which of several processes of the service it comes from."""
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any]
    links: tuple[str, ...]
    """Ids of the spans that it names."""
    is_error: bool


@dataclass
class Receiver:
    """The spans that have come so far."""

    http_url: str = ""
    grpc_url: str = ""
    _spans: list[ReceivedSpan] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def take(self, request: ExportTraceServiceRequest) -> None:
        """Keep the spans of one message."""
        with self._changed:
            for resource_spans in request.resource_spans:
                resource = _values(resource_spans.resource.attributes)
                self._spans += [
                    ReceivedSpan(
                        service=resource["service.name"],
                        instance=resource["service.instance.id"],
                        name=span.name,
                        trace_id=span.trace_id.hex(),
                        span_id=span.span_id.hex(),
                        parent_id=span.parent_span_id.hex(),
                        attributes=_values(span.attributes),
                        links=tuple(link.span_id.hex() for link in span.links),
                        is_error=span.status.code == Status.STATUS_CODE_ERROR,
                    )
                    for scope_spans in resource_spans.scope_spans
                    for span in scope_spans.spans
                ]
            self._changed.notify_all()

    def spans(self) -> list[ReceivedSpan]:
        """Return what has come so far."""
        with self._changed:
            return list(self._spans)

    def wait_for(self, *names: str, timeout_seconds: float = 20) -> list[ReceivedSpan]:
        """Return what has come, once there is a span of each name.

        Raises:
            AssertionError: one did not come in time.
        """

        def missing() -> set[str]:
            return set(names) - {span.name for span in self._spans}

        with self._changed:
            assert self._changed.wait_for(lambda: not missing(), timeout_seconds), f"no span {missing()}"
            return list(self._spans)


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Run a receiver on two free ports of the loopback interface."""
    receiver = Receiver()

    class Handler(QuietHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            receiver.take(ExportTraceServiceRequest.FromString(body))
            answer = ExportTraceServiceResponse().SerializeToString()
            self.respond(200, answer, {"Content-Type": "application/x-protobuf"})

    class Servicer(TraceServiceServicer):
        def Export(self, request: ExportTraceServiceRequest, context: object) -> ExportTraceServiceResponse:  # noqa: N802
            receiver.take(request)
            return ExportTraceServiceResponse()

    grpc_server = grpc.server(ThreadPoolExecutor(1))
    add_TraceServiceServicer_to_server(Servicer(), grpc_server)  # type: ignore[no-untyped-call]
    grpc_port = grpc_server.add_insecure_port("127.0.0.1:0")
    grpc_server.start()
    receiver.grpc_url = f"http://127.0.0.1:{grpc_port}"
    try:
        with serving(Handler) as receiver.http_url:
            yield receiver
    finally:
        grpc_server.stop(None).wait()


def _values(attributes: Iterable[KeyValue]) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "string_value") for pair in attributes}
