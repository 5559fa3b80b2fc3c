"""The server of the gRPC side: who is let in, and how it ends."""

import errno
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import grpc
from fastapi.security import SecurityScopes
from google.protobuf.message import Message
from opentelemetry.trace import NoOpTracer, Tracer
from prometheus_client import CollectorRegistry
from servicekit.auth import Principal, Verifications, authenticate
from servicekit.health import Readiness
from servicekit.logs import get_logger
from servicekit.problem import Problem
from servicekit.tokens import TokenVerifier

from inference_service.dependencies import State
from inference_service.errors import ShuttingDown
from inference_service.oip import protocol_pb2 as pb
from inference_service.oip.grpc_calls import SERVICE, Calls, verified_ns
from inference_service.oip.grpc_health import SERVICE as HEALTH
from inference_service.oip.grpc_health import health_handler
from inference_service.oip.grpc_service import InferenceService, caller_subject, verify_again
from inference_service.rates import RateLimiter

_OPEN = {"ServerLive", "ServerReady", "ServerMetadata"}
_FOR_ADMINISTRATORS = {"RepositoryModelLoad", "RepositoryModelUnload"}

LEAST_CALLS = 100
"""At once, however small the queue is: streams and those who watch the health stay open."""

log = get_logger(__name__)


class Doorkeeper(grpc.aio.ServerInterceptor):
    """Asks for a token with the scope of the method, before a message is read. Those of a stream count one by one."""

    def __init__(
        self,
        calls: Calls,
        verifier: TokenVerifier,
        verifications: Verifications,
        rates: RateLimiter,
        readiness: Readiness,
    ) -> None:
        self._calls = calls
        self._verifier = verifier
        self._verifications = verifications
        self._rates = rates
        self._readiness = readiness
        self._tracer = NoOpTracer()  # the span of a call begins with its handler, which tells of this

    async def intercept_service(self, continuation: Any, details: grpc.HandlerCallDetails) -> Any:
        """Go on with the call, or end it."""
        service, _, method = details.method.removeprefix("/").partition("/")
        if service == HEALTH or (service == SERVICE.full_name and method in _OPEN):
            return await continuation(details)
        scope = "inference:admin" if method in _FOR_ADMINISTRATORS else "inference:predict"
        try:
            if self._readiness.is_ending:  # as the listener of HTTP is closed then
                raise ShuttingDown("the service is shutting down")
            verify = partial(self._authenticate, _bearer(details), scope)
            caller = await verify()
            caller_subject.set(caller.subject)
            verify_again.set(verify)
            if method == "ModelInfer":
                await self._rates.take(caller.subject)
        except Problem as problem:
            return self._calls.refusal(method, problem)
        return await continuation(details)

    async def _authenticate(self, token: str | None, scope: str) -> Principal:
        began = time.time_ns()
        try:
            return await authenticate(SecurityScopes([scope]), token, self._verifier, self._verifications, self._tracer)
        finally:
            if token is not None:
                verified_ns.set((began, time.time_ns()))


def _bearer(details: grpc.HandlerCallDetails) -> str | None:
    for name, value in details.invocation_metadata or ():
        if name == "authorization" and isinstance(value, str):
            scheme, _, token = value.partition(" ")
            return token.strip() if scheme.lower() == "bearer" else None
    return None


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

    Raises:
        SystemExit: this machine cannot listen on that port, for the reason that is told.
    """
    settings = state["settings"]
    if settings.grpc_port is None:
        yield None
        return
    calls = Calls(registry, tracer, settings.slow_request_seconds)
    server = grpc.aio.server(
        interceptors=[Doorkeeper(calls, state["verifier"], state["verifications"], state["rates"], readiness)],
        maximum_concurrent_rpcs=most_calls(settings.max_queue_size),
        options=[
            ("grpc.max_receive_message_length", settings.max_infer_bytes),
            ("grpc.max_send_message_length", -1),
        ],
    )
    server.add_generic_rpc_handlers(
        (_handlers(InferenceService(state, readiness, stuck, tracer), calls), health_handler(readiness))
    )
    port = _listen(server, settings.grpc_host, settings.grpc_port)
    await server.start()
    log.info("grpc_started", port=port)
    try:
        yield port
    finally:
        await server.stop(min(settings.request_timeout_seconds, readiness.seconds_left))


def _listen(server: grpc.aio.Server, host: str, port: int) -> int:
    where = f"{host}:{port}"
    if error := _why_not(host, port):  # gRPC would say it to standard error, in words of its own
        if error.errno == errno.EADDRINUSE:
            raise SystemExit(f"INFERENCE_GRPC_PORT: {where} is in use")
        raise SystemExit(f"INFERENCE_GRPC_HOST, INFERENCE_GRPC_PORT: cannot listen on {where}: {error.strerror}")
    try:
        return server.add_insecure_port(where)
    except RuntimeError:  # it was taken just now
        raise SystemExit(f"INFERENCE_GRPC_PORT: cannot listen on {where}") from None


def _why_not(host: str, port: int) -> OSError | None:
    """Return why none of the addresses of `host` can be listened on, as gRPC does: the workers share the port."""
    reason = None
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        return error
    for family, kind, protocol, _, address in found:
        try:
            with socket.socket(family, kind, protocol) as probe:
                for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
                    probe.setsockopt(socket.SOL_SOCKET, option, 1)
                probe.bind(address)
        except OSError as error:
            reason = error
        else:
            return None
    return reason


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
        make = grpc.stream_stream_rpc_method_handler if method.client_streaming else grpc.unary_unary_rpc_method_handler
        handle = calls.recorded(method.name, answer, is_stream=method.client_streaming)
        handlers[method.name] = make(
            handle, request_deserializer=request.FromString, response_serializer=response.SerializeToString
        )
    return grpc.method_handlers_generic_handler(SERVICE.full_name, handlers)
