"""The local view, put together: it takes spans by OTLP, reads metrics, and shows both on a page."""

import gzip
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TypedDict

import httpx
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import FileResponse
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from servicekit.app import build_app
from servicekit.background import running
from servicekit.health import Readiness
from servicekit.metrics import new_registry
from servicekit.problem import NotFound
from servicekit.starting import settings_at_start
from servicekit.telemetry import Telemetry
from starlette.middleware.trustedhost import TrustedHostMiddleware

from gateway.errors import BadRequest
from gateway.observing.metrics import Charts, MetricBook
from gateway.observing.settings import ObserverSettings
from gateway.observing.traces import ShownSpan, Summary, TraceBook

PAGE = Path(__file__).parent / "page"
FILES = {"": "text/html", "view.css": "text/css", "view.js": "text/javascript"}
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
SCRAPE_TIMEOUT_SECONDS = 1.0


class State(TypedDict):
    """What the lifespan opens."""

    traces: TraceBook
    metrics: MetricBook


def create_app(settings: ObserverSettings | None = None) -> FastAPI:
    """Build the application; without `settings` they are read from the environment."""
    if settings is None:
        settings = settings_at_start(ObserverSettings)
    # What it did would be most of what it shows.
    settings = settings.model_copy(update={"traces_exporter": "none"})
    registry = new_registry()
    app = build_app(
        settings,
        title="Pinhole local view",
        description="Shows the traces and metrics of a laptop.",
        version=version("pinhole-gateway"),
        lifespan=_lifespan(settings),
        routers=[_router()],
        readiness=Readiness(),
        registry=registry,
        telemetry=Telemetry(settings, version=version("pinhole-gateway"), registry=registry),
        max_body_bytes=settings.max_body_bytes,
    )
    # A page of somebody else that has its name point here would be let in by the browser, and is not.
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["localhost", "127.0.0.1"])
    return app


def _lifespan(settings: ObserverSettings) -> Callable[[FastAPI], AbstractAsyncContextManager[State]]:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[State]:
        async with httpx.AsyncClient(timeout=SCRAPE_TIMEOUT_SECONDS, trust_env=False) as http:
            metrics = MetricBook(http, settings.services, kept=settings.kept_scrapes)
            async with running(metrics.follow(settings.scrape_seconds), "scrapes"):
                yield State(
                    traces=TraceBook(max_traces=settings.kept_traces, max_spans=settings.kept_spans), metrics=metrics
                )

    return lifespan


def _router() -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.post("/v1/traces")
    async def take_spans(request: Request) -> Response:
        body = await request.body()
        try:
            if request.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            request.state.traces.add(ExportTraceServiceRequest.FromString(body))
        except (DecodeError, OSError, EOFError, zlib.error):
            raise BadRequest("the body is no message of OTLP") from None
        return Response(ExportTraceServiceResponse().SerializeToString(), media_type="application/x-protobuf")

    @router.get("/api/traces")
    async def list_traces(request: Request) -> Sequence[Summary]:
        traces: TraceBook = request.state.traces
        return traces.summaries()

    @router.get("/api/traces/{trace_id}")
    async def read_trace(trace_id: str, request: Request) -> Sequence[ShownSpan]:
        traces: TraceBook = request.state.traces
        spans = traces.spans(trace_id)
        if not spans:
            raise NotFound("there is no such trace any more")
        return spans

    @router.get("/api/metrics")
    async def draw_metrics(request: Request) -> Charts:
        metrics: MetricBook = request.state.metrics
        return metrics.charts()

    @router.get("/{name}")
    @router.get("/")
    async def page(name: str = "") -> Response:
        if name not in FILES:
            raise NotFound("there is no such page")
        return FileResponse(PAGE / (name or "index.html"), media_type=FILES[name], headers=HEADERS)

    return router
