"""What is recorded of each gRPC call, and how it ends: its span, its measurement, its line in the log, its status."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, NoReturn

import grpc
from google.protobuf.message import Message
from opentelemetry import propagate, trace
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer
from prometheus_client import CollectorRegistry, Histogram
from servicekit.logs import get_logger
from servicekit.metrics import DURATION_BUCKETS
from servicekit.problem import Problem
from servicekit.recording import warn_if_slow
from servicekit.telemetry import exemplar

from inference_service.oip import protocol_pb2 as pb
from inference_service.oip.errors import message, status
from inference_service.spans import tell_span
from inference_service.timings import Stage

SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
PROBES = frozenset({"ServerLive", "ServerReady", "ModelReady"})
"""Asked every second or more often: measured, but neither traced nor logged, as the paths of REST that say the same."""

UNKNOWN = "_OTHER"
"""The label of every method that the protocol does not have, so that callers cannot make labels."""

LEAVING_SECONDS = 0.01
"""The clock of a caller may end a call so long before that of the server."""

MOST_DETAILS = 500
"""Characters of a message, each of which may take 12 bytes: a client cuts a call off whose status has over 8 kB."""

call_stages: ContextVar[Callable[[], Mapping[Stage, float]]] = ContextVar("call_stages", default=dict)
"""Where the time of the call goes: set by a method with stages, asked when it is over."""

verified_ns: ContextVar[tuple[int, int] | None] = ContextVar("verified_ns", default=None)
"""From when to when the token of the call was verified: its span begins with its handler, and that was before."""

_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.FAILED_PRECONDITION,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}

_FAILURES = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})
"""The statuses that are the server's fault, by OpenTelemetry's conventions for gRPC; the others are the caller's."""

log = get_logger(__name__)


class Calls:
    """Measures, traces and logs each call, and ends it with the status that its problem has.

    A call of one request that takes `slow_seconds` is a warning, with its stages; a stream is as long as its caller
    likes.
    """

    def __init__(self, registry: CollectorRegistry, tracer: Tracer, slow_seconds: float) -> None:
        self._tracer = tracer
        self._slow_seconds = slow_seconds
        self._duration_seconds = Histogram(
            "rpc_server_call_duration_seconds",
            "Time to the end of a gRPC call.",
            ["rpc_method", "rpc_response_status_code"],
            buckets=DURATION_BUCKETS,
            registry=registry,
        )

    def recorded(self, method: str, answer: Callable[[Any, Any], Awaitable[Any]], *, is_stream: bool) -> Any:
        """Return the handler of a method that `answer` answers: with a message, or of a stream with `write`."""

        async def handle(request: Any, context: Any) -> Any:
            with self._call(method, context, is_stream=is_stream):
                try:
                    return await answer(request, context)
                except Exception as error:
                    await _end(context, error)

        return handle

    def refusal(self, method: str, problem: Problem) -> Any:
        """Return a handler that reads nothing: a stream is not read unless its handler does."""
        known = method if method in SERVICE.methods_by_name else UNKNOWN

        async def refuse(_requests: Any, context: Any) -> NoReturn:
            with self._call(known, context):
                await _end(context, problem)

        return grpc.stream_unary_rpc_method_handler(refuse)

    @contextmanager
    def _call(self, method: str, context: Any, *, is_stream: bool = False) -> Iterator[None]:
        started = time.perf_counter()
        allowed_seconds = context.time_remaining()
        code = "OK"
        with nullcontext() if method in PROBES else self._span(method, context):
            try:
                yield
                if is_stream and _is_late(context, allowed_seconds):  # it ends as if its caller had closed it
                    code = "DEADLINE_EXCEEDED"
            except asyncio.CancelledError:
                code = "DEADLINE_EXCEEDED" if _is_late(context, allowed_seconds) else "CANCELLED"
                raise
            except grpc.aio.AbortError:
                code = context.code().name
                raise
            finally:
                seconds = time.perf_counter() - started
                self._duration_seconds.labels(method, code).observe(seconds, exemplar())
                if method not in PROBES:
                    _tell_status(trace.get_current_span(), code)
                    log.info("call", method=method, status=code, duration_seconds=round(seconds, 6))
                    limit = float("inf") if is_stream else self._slow_seconds
                    warn_if_slow(seconds, limit, call_stages.get(), method=method, status=code)

    @contextmanager
    def _span(self, method: str, context: Any) -> Iterator[None]:
        verified = verified_ns.get()
        with self._tracer.start_as_current_span(
            f"{SERVICE.full_name}/{method}",
            propagate.extract(dict(context.invocation_metadata())),
            kind=SpanKind.SERVER,
            attributes={"rpc.system.name": "grpc", "rpc.method": f"{SERVICE.full_name}/{method}"},
            start_time=verified and verified[0],
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            if verified is not None and span.is_recording():
                tell_span(self._tracer, "authenticate", span.get_span_context(), *verified)
            yield


async def write(context: Any, message: Message) -> None:
    """Send one answer of a stream. Where its caller has left meanwhile, it is cancelled, as any other call."""
    try:
        await context.write(message)
    except grpc.aio.InternalError:
        raise asyncio.CancelledError from None


def _tell_status(span: Span, code: str) -> None:
    span.set_attribute("rpc.response.status_code", code)
    if code in _FAILURES:
        span.set_attribute("error.type", code)
        span.set_status(StatusCode.ERROR)


def _is_late(context: Any, allowed_seconds: float | None) -> bool:
    """Tell whether a call was cancelled because its deadline has passed."""
    # By the clock of the caller, who leaves first: the time that it allows is sent with three digits, rounded up.
    return allowed_seconds is not None and context.time_remaining() <= 0.01 * allowed_seconds + LEAVING_SECONDS


def code_of(problem: Problem) -> grpc.StatusCode:
    """Return the status of gRPC that says what went wrong."""
    return _CODES.get(status(problem), grpc.StatusCode.INTERNAL)


async def _end(context: Any, error: Exception) -> NoReturn:
    """End a call with the status of a problem; what else was raised is logged, and not told."""
    if isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if not isinstance(error, Problem):
        log.error("call_failed", exc_info=error)
        error = Problem("the call could not be completed")
    trailers = []
    if retry_after := error.headers.get("Retry-After"):
        # Read by clients with a policy of retries (gRFC A6).
        trailers.append(("grpc-retry-pushback-ms", str(int(retry_after) * 1000)))
    await context.abort(code_of(error), message(error)[:MOST_DETAILS], tuple(trailers))
    raise AssertionError("abort always raises")
