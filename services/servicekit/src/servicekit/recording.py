"""What is recorded of each request: its id, its measurements and its line in the access log."""

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uuid_utils import uuid7

from servicekit.logs import get_logger
from servicekit.metrics import UNMATCHED, HttpMetrics
from servicekit.problem import ErrorResponse, Problem, problem_response
from servicekit.revocations import REVOCATIONS_PATH
from servicekit.settings import ServiceSettings
from servicekit.telemetry import exemplar

REQUEST_ID_HEADER = "X-Request-ID"
QUIET_PATHS = frozenset({"/livez", "/readyz", "/metrics", REVOCATIONS_PATH, "/internal/events"})
"""Asked every second or more often: a log of them would be all that there is to read."""

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_STAGES = "servicekit.stages"

log = get_logger(__name__)


def is_quiet(path: str, probes: re.Pattern[str] | None) -> bool:
    """Tell whether a path is among `QUIET_PATHS` or the service's own `probes`."""
    path = path.rstrip("/")
    return path in QUIET_PATHS or bool(probes and probes.fullmatch(path))


def report_stages(request: Request, seconds: Callable[[], Mapping[Any, float]]) -> None:
    """Let the answer's `Server-Timing`, and the log if it is slow, say where the time of this request goes."""
    request.scope[_STAGES] = seconds


def warn_if_slow(
    seconds: float, limit_seconds: float, stages: Callable[[], Mapping[Any, float]], **fields: object
) -> None:
    """Log a request that took as long as the limit, with the seconds of its stages."""
    if seconds >= limit_seconds:
        rounded = {stage: round(duration, 6) for stage, duration in stages().items()}
        log.warning("slow_request", **fields, duration_seconds=round(seconds, 6), stages_seconds=rounded)


class RequestRecorder:
    """Gives each request an id, measures and logs it, and answers 500 for what nobody caught."""

    def __init__(
        self,
        app: ASGIApp,
        settings: ServiceSettings,
        metrics: HttpMetrics,
        error_response: ErrorResponse = problem_response,
        probes: re.Pattern[str] | None = None,
    ) -> None:
        self._app = app
        self._probes = probes
        self._settings = settings
        self._metrics = metrics
        self._error_response = error_response

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; other messages of the server pass through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        recorded = _Recorded(scope, self._settings.service)
        # Nobody is known yet; `servicekit.auth` says who acts.
        with structlog.contextvars.bound_contextvars(request_id=recorded.request_id, actor=None):
            self._metrics.active.inc()
            try:
                await self._app(scope, recorded.receiving(receive), recorded.sending(send))
            except ClientDisconnect:
                pass  # nobody is left to be answered
            except Exception:
                log.exception("request_failed", route=recorded.route)
                if recorded.is_answering:
                    raise
                response = self._error_response(Problem("the request could not be completed"), Request(scope))
                await response(scope, receive, recorded.sending(send))
            finally:
                self._metrics.active.dec()
                self._record(recorded)

    def _record(self, recorded: "_Recorded") -> None:
        seconds, route = recorded.seconds, recorded.route
        labels = (recorded.method, route, str(recorded.status))
        self._metrics.duration_seconds.labels(*labels).observe(seconds, exemplar())
        if is_quiet(recorded.path, self._probes):
            return
        fields = {"method": recorded.method, "route": route, "status": recorded.status}
        log.info(
            "request",
            **fields,
            duration_seconds=round(seconds, 6),
            request_bytes=recorded.request_bytes,
            response_bytes=recorded.response_bytes,
        )
        warn_if_slow(seconds, self._settings.slow_request_seconds, recorded.stages, **fields)


class _Recorded:
    """What is known of one request so far."""

    def __init__(self, scope: Scope, service: str) -> None:
        self._scope = scope
        self._service = service
        self._started = time.perf_counter()
        self._ended: float | None = None
        self.request_id = _request_id(scope)
        self.status = 499  # until an answer starts: the client left first
        self.is_answering = False
        self._has_left = False
        self.request_bytes = 0
        self.response_bytes = 0

    @property
    def seconds(self) -> float:
        """Return how long it has taken: to the end of its answer, or until now."""
        return (self._ended or time.perf_counter()) - self._started

    @property
    def method(self) -> str:
        """Return its method; those that callers make up are one."""
        method: str = self._scope["method"]
        return method if method in _METHODS else "_OTHER"

    @property
    def path(self) -> str:
        """Return its path."""
        path: str = self._scope["path"]
        return path

    @property
    def route(self) -> str:
        """Return the template of its path."""
        return getattr(self._scope.get("route"), "path", None) or UNMATCHED

    def stages(self) -> Mapping[str, float]:
        """Return the seconds of the stages that were reported."""
        seconds: Callable[[], Mapping[Any, float]] = self._scope.get(_STAGES, dict)
        return seconds()

    def receiving(self, receive: Receive) -> Receive:
        """Return `receive`, which counts."""

        async def receive_recorded() -> Message:
            message = await receive()
            self.request_bytes += len(message.get("body", b""))
            self._has_left = message["type"] == "http.disconnect"
            return message

        return receive_recorded

    def sending(self, send: Send) -> Send:
        """Return `send`, which counts, and tells the caller the id and where the time went."""

        async def send_recorded(message: Message) -> None:
            if message["type"] == "http.response.start":
                if not self._has_left:  # else it is for nobody: FastAPI takes half a body for a malformed one
                    self.status = message["status"]
                self.is_answering = True
                message["headers"] = [
                    *message["headers"],
                    (REQUEST_ID_HEADER.lower().encode(), self.request_id.encode()),
                    (b"server-timing", self._server_timing().encode()),
                ]
            else:
                self.response_bytes += len(message.get("body", b""))
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                self._ended = time.perf_counter()
                # uvloop sends at the end of a turn of the loop: the caller need not wait for what is recorded.
                await asyncio.sleep(0)

        return send_recorded

    def _server_timing(self) -> str:
        """Return the value of a `Server-Timing` header (W3C), in milliseconds: the stages, then the whole until now."""
        spent = {**self.stages(), self._service: self.seconds}
        return ", ".join(f"{name};dur={seconds * 1000:.3f}" for name, seconds in spent.items())


def _request_id(scope: Scope) -> str:
    """Return the caller's request id where it is harmless to log, else a new one."""
    for name, value in scope["headers"]:
        if name == REQUEST_ID_HEADER.lower().encode() and _REQUEST_ID.fullmatch(value):
            return str(value.decode("ascii"))
    return uuid7().hex
