"""The server of the gRPC side: who is let in, what errors become, and how it ends."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NoReturn

import grpc
from fastapi.security import SecurityScopes
from google.protobuf.message import Message
from opentelemetry import propagate
from opentelemetry.trace import NoOpTracer, SpanKind, Tracer
from prometheus_client import CollectorRegistry, Histogram
from servicekit.auth import Verifications, authenticate
from servicekit.health import Readiness
from servicekit.logs import get_logger
from servicekit.metrics import DURATION_BUCKETS
from servicekit.problem import Problem
from servicekit.telemetry import exemplar
from servicekit.tokens import TokenVerifier

from inference_service.dependencies import State
from inference_service.errors import ShuttingDown
from inference_service.oip import protocol_pb2 as pb
from inference_service.oip.errors import message, status
from inference_service.oip.grpc_health import SERVICE as HEALTH
from inference_service.oip.grpc_health import health_handler
from inference_service.oip.grpc_service import InferenceService, caller_subject
from inference_service.rates import RateLimiter

SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
_OPEN = {"ServerLive", "ServerReady", "ServerMetadata"}
_FOR_ADMINISTRATORS = {"RepositoryModelLoad", "RepositoryModelUnload"}

LEAST_CALLS = 100
"""At once, however small the queue is: streams and those who watch the health stay open."""

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

log = get_logger(__name__)


class Calls:
    """Measures, traces and logs each call, and ends it with the status that its problem has."""

    def __init__(self, registry: CollectorRegistry, tracer: Tracer) -> None:
        self._tracer = tracer
        self._duration_seconds = Histogram(
            "rpc_server_call_duration_seconds",
            "Time to the end of a gRPC call.",
            ["rpc_method", "rpc_response_status_code"],
            buckets=DURATION_BUCKETS,
            registry=registry,
        )

    def unary(self, method: str, answer: Callable[[Any, Any], Awaitable[Message]]) -> Any:
        """Return the handler of a method with one request and one answer."""

        async def handle(request: Message, context: Any) -> Message:
            with self._call(method, context):
                try:
                    return await answer(request, context)
                except Exception as error:
                    await _end(context, error)

        return handle

    def stream(self, method: str, answer: Callable[[Any, Any], AsyncIterator[Message]]) -> Any:
        """Return the handler of a method with streams both ways."""

        async def handle(requests: AsyncIterator[Message], context: Any) -> AsyncIterator[Message]:
            with self._call(method, context):
                try:
                    async for message in answer(requests, context):
                        yield message
                except Exception as error:
                    await _end(context, error)

        return handle

    @contextmanager
    def _call(self, method: str, context: Any) -> Iterator[None]:
        with self._tracer.start_as_current_span(
            f"{SERVICE.full_name}/{method}",
            propagate.extract(dict(context.invocation_metadata())),
            kind=SpanKind.SERVER,
            attributes={"rpc.system": "grpc", "rpc.method": f"{SERVICE.full_name}/{method}"},
            record_exception=False,
        ):
            started = time.perf_counter()
            code = "OK"
            try:
                yield
            except asyncio.CancelledError:  # the caller has left, or its deadline has passed
                code = "CANCELLED"
                raise
            except grpc.aio.AbortError:
                code = context.code().name
                raise
            finally:
                seconds = time.perf_counter() - started
                self._duration_seconds.labels(method, code).observe(seconds, exemplar())
                log.info("call", method=method, status=code, duration_seconds=round(seconds, 6))


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
    await context.abort(_CODES.get(status(error), grpc.StatusCode.INTERNAL), message(error), tuple(trailers))
    raise AssertionError("abort always raises")


class Doorkeeper(grpc.aio.ServerInterceptor):
    """Asks for a token with the scope of the method, before a message is read. Those of a stream count one by one."""

    def __init__(
        self, verifier: TokenVerifier, verifications: Verifications, rates: RateLimiter, readiness: Readiness
    ) -> None:
        self._verifier = verifier
        self._verifications = verifications
        self._rates = rates
        self._readiness = readiness
        self._tracer = NoOpTracer()  # the span of a call begins with its handler

    async def intercept_service(self, continuation: Any, details: grpc.HandlerCallDetails) -> Any:
        """Go on with the call, or end it."""
        service, _, method = details.method.removeprefix("/").partition("/")
        if service == HEALTH or (service == SERVICE.full_name and method in _OPEN):
            return await continuation(details)
        scope = "inference:admin" if method in _FOR_ADMINISTRATORS else "inference:predict"
        try:
            if self._readiness.is_ending:  # as the listener of HTTP is closed then
                raise ShuttingDown("the service is shutting down")
            caller = await authenticate(
                SecurityScopes([scope]), _bearer(details), self._verifier, self._verifications, self._tracer
            )
            caller_subject.set(caller.subject)
            if method == "ModelInfer":
                await self._rates.take(caller.subject)
        except Problem as problem:
            return _ending(problem)
        return await continuation(details)


def _bearer(details: grpc.HandlerCallDetails) -> str | None:
    for name, value in details.invocation_metadata or ():
        if name == "authorization" and isinstance(value, str):
            scheme, _, token = value.partition(" ")
            return token.strip() if scheme.lower() == "bearer" else None
    return None


def _ending(problem: Problem) -> Any:
    """Return a handler that reads nothing: a stream is not read unless its handler does."""

    async def end(_requests: Any, context: Any) -> NoReturn:
        await _end(context, problem)

    return grpc.stream_unary_rpc_method_handler(end)


@asynccontextmanager
async def open_grpc_server(
    state: State,
    readiness: Readiness,
    stuck: Callable[[], str | None],
    registry: CollectorRegistry,
    tracer: Tracer,
) -> AsyncIterator[int | None]:
    """Yield the port on which gRPC is served, or None where none is set.

    As soon as the process is told to end no more calls are taken. Those that go on when the requests over HTTP
    are answered have `request_timeout_seconds`, and no more than the process has.
    """
    settings = state["settings"]
    if settings.grpc_port is None:
        yield None
        return
    server = grpc.aio.server(
        interceptors=[Doorkeeper(state["verifier"], state["verifications"], state["rates"], readiness)],
        maximum_concurrent_rpcs=most_calls(settings.max_queue_size),
        options=[
            ("grpc.max_receive_message_length", settings.max_infer_bytes),
            ("grpc.max_send_message_length", -1),
        ],
    )
    calls = Calls(registry, tracer)
    server.add_generic_rpc_handlers(
        (_handlers(InferenceService(state, readiness, stuck, tracer), calls), health_handler(readiness))
    )
    port = server.add_insecure_port(f"{settings.grpc_host}:{settings.grpc_port}")
    await server.start()
    log.info("grpc_started", port=port)
    try:
        yield port
    finally:
        await server.stop(min(settings.request_timeout_seconds, readiness.seconds_left))


def most_calls(max_queue_size: int) -> int:
    """Return how many calls may go on at once: a full queue of them, and as many that are being told so."""
    return max(LEAST_CALLS, 2 * max_queue_size)


def _handlers(service: InferenceService, calls: Calls) -> grpc.GenericRpcHandler:
    """Return the methods of the protocol, by the names and the types in its descriptor."""
    handlers = {}
    for method in SERVICE.methods:
        request: type[Message] = getattr(pb, method.input_type.name)
        response: type[Message] = getattr(pb, method.output_type.name)
        answer = getattr(service, method.name)
        make, handle = (
            (grpc.stream_stream_rpc_method_handler, calls.stream(method.name, answer))
            if method.client_streaming
            else (grpc.unary_unary_rpc_method_handler, calls.unary(method.name, answer))
        )
        handlers[method.name] = make(
            handle, request_deserializer=request.FromString, response_serializer=response.SerializeToString
        )
    return grpc.method_handlers_generic_handler(SERVICE.full_name, handlers)
