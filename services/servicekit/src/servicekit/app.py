"""The application that every service is built on."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.routing import APIRoute
from prometheus_client import CollectorRegistry
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from servicekit.background import running
from servicekit.health import Readiness, health_router
from servicekit.lifespans import StartInASentence, opened_unless_ending
from servicekit.log_levels import follow_levels
from servicekit.metrics import HttpMetrics, metrics_router
from servicekit.problem import (
    BodyTooSlow,
    ContentTooLarge,
    ErrorResponse,
    document_problems,
    install_problem_handlers,
    problem_response,
)
from servicekit.recording import RequestRecorder, is_quiet
from servicekit.settings import ServiceSettings
from servicekit.telemetry import Telemetry

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[Mapping[str, Any]]]

MAX_BODY_BYTES = 64 * 1024


def build_app(
    settings: ServiceSettings,
    *,
    title: str,
    description: str,
    version: str,
    lifespan: Lifespan,
    routers: Sequence[APIRouter],
    readiness: Readiness,
    registry: CollectorRegistry,
    telemetry: Telemetry,
    max_body_bytes: int | None = MAX_BODY_BYTES,
    stuck: Callable[[], str | None] = lambda: None,
    error_response: ErrorResponse = problem_response,
    probes: re.Pattern[str] | None = None,
) -> FastAPI:
    """Return an application with probes, metrics, traces, problems, request ids and an access log.

    Its OpenAPI document is at `/openapi/<service>.json`. Paths answer with and without a
    trailing slash, and to HEAD where they do to GET. The state of its requests has `tracer` beside what
    `lifespan` yields.
    Bodies over `max_body_bytes` get 413; None leaves the limit to the routes. Those that take longer than the
    settings allow get 408.
    `/livez` fails where `stuck` says why this process cannot go on. `error_response` renders errors,
    where some paths have a form of their own. Paths that match `probes` are neither traced nor logged, as those
    of the probes here.
    """
    app = FastAPI(
        title=title,
        description=description,
        version=version,
        lifespan=_observed(lifespan, settings, telemetry, readiness),
        openapi_url=f"/openapi/{settings.service}.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry={
            "tracer_provider": telemetry.tracer_provider,
            "exclude": lambda scope: is_quiet(scope["path"], probes),
            "operation_spans": False,
            "metrics": False,
            "logs": False,
            "auto_configure": False,
        },
    )
    app.state.readiness = readiness  # for the server, which is told first when it is to end
    for router in (health_router(readiness, stuck), metrics_router(registry), *routers):
        app.include_router(router)
    install_problem_handlers(app, error_response)
    _replace_openapi(app)
    app.add_middleware(HeadAsGet)
    if max_body_bytes is not None:
        app.add_middleware(BodyLimit, max_bytes=max_body_bytes, error_response=error_response)
    app.add_middleware(BodyDeadline, timeout_seconds=settings.body_timeout_seconds)
    app.add_middleware(TrailingSlash)
    app.add_middleware(
        RequestRecorder,
        settings=settings,
        metrics=HttpMetrics(registry),
        error_response=error_response,
        probes=probes,
    )
    app.add_middleware(StartInASentence, readiness=readiness)
    return app


class TrailingSlash:
    """Takes one slash off the end of a path, so that both spellings are one route."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on under its path without the slash."""
        if scope["type"] == "http" and scope["path"] != "/" and scope["path"].endswith("/"):
            scope["path"] = scope["path"][:-1]
        await self._app(scope, receive, send)


class HeadAsGet:
    """Answers HEAD as GET, with the same headers and no body (RFC 9110 section 9.3.2): FastAPI's routes do not."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on as a GET, until there is an answer: the server and the log have to know what it was."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            scope["method"] = "HEAD"
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        scope["method"] = "GET"
        try:
            await self._app(scope, receive, send_head)
        finally:
            scope["method"] = "HEAD"


class BodyLimit:
    """Refuses bodies over a size: by their declared length at once, else as soon as they pass it."""

    def __init__(self, app: ASGIApp, max_bytes: int, error_response: ErrorResponse = problem_response) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._error_response = error_response

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a `receive` that counts."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        problem = ContentTooLarge(f"the limit is {self._max_bytes} bytes")
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdecimal() and int(declared) > self._max_bytes:
            await self._error_response(problem, Request(scope))(scope, receive, send)
            return
        size = 0

        async def receive_counted() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self._max_bytes:
                raise problem
            return message

        await self._app(scope, receive_counted, send)


class BodyDeadline:
    """Gives up a body that does not come whole within a time, from when it is first asked for."""

    def __init__(self, app: ASGIApp, timeout_seconds: float) -> None:
        self._app = app
        self._timeout_seconds = timeout_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a `receive` that raises BodyTooSlow."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        ends_at: float | None = None
        is_whole = False

        async def receive_in_time() -> Message:
            nonlocal ends_at, is_whole
            if is_whole:  # what comes now is that the caller leaves
                return await receive()
            if ends_at is None:
                ends_at = asyncio.get_running_loop().time() + self._timeout_seconds
            try:
                async with asyncio.timeout_at(ends_at):
                    message = await receive()
            except TimeoutError:
                raise BodyTooSlow(f"the body did not come within {self._timeout_seconds:g} s") from None
            is_whole = not message.get("more_body", False)
            return message

        await self._app(scope, receive_in_time, send)


class LimitedRoute(APIRoute):
    """A route with the usual limit on bodies, in an application that leaves the limit to its routes."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request, with a `receive` that counts."""
        await BodyLimit(super().handle, MAX_BODY_BYTES)(scope, receive, send)


def _observed(lifespan: Lifespan, settings: ServiceSettings, telemetry: Telemetry, readiness: Readiness) -> Lifespan:
    """Return `lifespan` with the tracer in its state: telemetry is the first to run, and the last."""

    @asynccontextmanager
    async def observed(app: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
        async with (
            telemetry.running(),
            running(follow_levels(settings.log_levels_file), "log levels"),
            opened_unless_ending(lifespan(app), readiness) as state,
        ):
            yield {**state, "tracer": telemetry.tracer}

    return observed


def _replace_openapi(app: FastAPI) -> None:
    build = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document_problems(build())
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
