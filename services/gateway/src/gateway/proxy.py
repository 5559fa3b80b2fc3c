"""Passes a request to a service and its answer back, as both arrive."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import TypedDict

import anyio
import httpcore
import structlog
from fastapi import Request
from opentelemetry import trace
from opentelemetry.trace import SpanKind, Tracer
from servicekit.logs import get_logger
from servicekit.problem import ContentTooLarge, ErrorResponse, NotFound, Problem, ServiceUnavailable
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from gateway.errors import BadGateway, BadRequest, GatewayTimeout
from gateway.headers import content_length, downstream_fields, upstream_fields
from gateway.settings import GatewaySettings
from gateway.upstream import Upstream

_FAILURES = (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError)
"""Everything that an exchange with a service may end with, of the exceptions of httpcore."""

log = get_logger(__name__)


class State(TypedDict):
    """The state of the running gateway."""

    settings: GatewaySettings
    upstreams: dict[str, Upstream]


class Proxy:
    """An ASGI application that answers with what `service` answers."""

    def __init__(self, service: str, error_response: ErrorResponse) -> None:
        self._service = service
        self._error_response = error_response

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; a client that leaves ends the exchange with the service."""
        state: State = scope["state"]
        upstream = state["upstreams"][self._service]
        body = _Body(receive, length=content_length(scope), max_bytes=state["settings"].max_body_bytes)
        try:
            if _may_escape(scope["path"]):
                raise NotFound("no such path")
            body.check_length()
            async with _until_disconnect(body):
                await self._exchange(upstream, scope, body, send)
        except ClientDisconnect:
            return
        except Problem as problem:
            response = self._error_response(problem, Request(scope))
            await response(scope, receive, send)

    async def _exchange(self, upstream: Upstream, scope: Scope, body: "_Body", send: Send) -> None:
        tracer: Tracer = scope["state"]["tracer"]
        with tracer.start_as_current_span(
            scope["method"],
            kind=SpanKind.CLIENT,
            attributes={"http.request.method": scope["method"], "peer.service": self._service},
            record_exception=False,
        ):
            await self._pass_on(upstream, scope, body, send)

    async def _pass_on(self, upstream: Upstream, scope: Scope, body: "_Body", send: Send) -> None:
        answering = False
        request_id = structlog.contextvars.get_contextvars()["request_id"]
        fields = upstream_fields(scope, request_id=request_id)
        try:
            async with upstream.request(scope["method"], _target(scope), fields, body.chunks()) as answer:
                answering = True
                trace.get_current_span().set_attribute("http.response.status_code", answer.status)
                fields = downstream_fields(answer.headers)
                if body.may_be_endless:
                    fields.append((b"connection", b"close"))
                await send({"type": "http.response.start", "status": answer.status, "headers": fields})
                async for chunk in answer.aiter_stream():
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except _FAILURES as failure:
            log.warning("upstream_failed", upstream=self._service, error=type(failure).__name__)
            if not answering:
                raise self._problem(failure) from failure
            # Half an answer: the server closes the connection, so that the caller takes it for no whole one.

    def _problem(self, failure: Exception) -> Problem:
        match failure:
            case httpcore.ConnectError() | httpcore.ConnectTimeout():
                return ServiceUnavailable(f"{self._service} cannot be reached")
            case httpcore.PoolTimeout():
                return ServiceUnavailable(f"{self._service} has too many requests")
            case httpcore.TimeoutException():
                return GatewayTimeout(f"{self._service} did not answer in time")
            case httpcore.LocalProtocolError():
                return BadRequest("the request is not valid HTTP")
            case _:
                return BadGateway(f"{self._service} broke off")


class _Body:
    """The body of a request, passed on as it arrives. `length` in bytes is None where it is not told."""

    def __init__(self, receive: Receive, *, length: int | None, max_bytes: int) -> None:
        self._receive = receive
        self._length = length
        self._max_bytes = max_bytes
        self._ended = asyncio.Event()
        if length == 0:
            self._ended.set()

    def check_length(self) -> None:
        """Raise ContentTooLarge where the told length passes the limit."""
        if self._length is not None and self._length > self._max_bytes:
            raise ContentTooLarge(f"the limit is {self._max_bytes} bytes")

    @property
    def may_be_endless(self) -> bool:
        """Whether there is more to come and nobody knows how much."""
        return self._length is None and not self._ended.is_set()

    def chunks(self) -> AsyncIterator[bytes] | None:
        """Return the body as it arrives, None where there is none.

        Iterating raises ContentTooLarge where it passes the limit, BodyTooSlow, and ClientDisconnect.
        """
        return None if self._length == 0 else self._read()

    async def _read(self) -> AsyncIterator[bytes]:
        passed_bytes = 0
        while not self._ended.is_set():
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            chunk: bytes = message.get("body", b"")
            passed_bytes += len(chunk)
            if passed_bytes > self._max_bytes:
                raise ContentTooLarge(f"the limit is {self._max_bytes} bytes")
            if not message.get("more_body", False):
                self._ended.set()
            if chunk:
                yield chunk

    async def call_at_disconnect(self, callback: Callable[[], None]) -> None:
        """Wait until the client leaves, once its body is read."""
        await self._ended.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass
        callback()


@contextlib.asynccontextmanager
async def _until_disconnect(body: _Body) -> AsyncIterator[None]:
    """Cancel the block when the client leaves."""
    with anyio.CancelScope() as scope:
        watch = asyncio.create_task(body.call_at_disconnect(scope.cancel))
        try:
            yield
        finally:
            watch.cancel()


def _may_escape(path: str) -> bool:
    """Tell whether someone who simplifies `path` could arrive outside of its first segment."""
    return path != "/" and any(segment in {"", ".", ".."} for segment in path[1:].split("/"))


def _target(scope: Scope) -> bytes:
    """Return path and query as the caller wrote them."""
    query: bytes = scope["query_string"]
    path: bytes = scope["raw_path"]
    return path + b"?" + query if query else path
