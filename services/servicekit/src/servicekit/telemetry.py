"""Traces of one process, by OpenTelemetry: what is watched, and where the spans go.

The variables are OpenTelemetry's own (`OTEL_*`). Without an endpoint nothing is traced, at no cost.
"""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING
from uuid import uuid4

import httpx
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SpanExporter
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import Link, NoOpTracerProvider, SpanKind, Tracer, TraceState
from opentelemetry.util.types import Attributes
from prometheus_client import CollectorRegistry

from servicekit.logs import current_trace
from servicekit.settings import ServiceSettings
from servicekit.span_sending import SpanOutcomes, SpanQueue

if TYPE_CHECKING:  # the inference service has no database, and a Redis is not everywhere
    from redis.asyncio import Redis
    from sqlalchemy.ext.asyncio import AsyncEngine

FLUSH_SECONDS = 5.0
"""Longest wait at the end for a receiver to take the last spans."""


class Telemetry(trace.TracerProvider):
    """The tracer of one service, and the clients and databases that it watches.

    Made with the application, which may be before a fork; its thread and its connection are of `running`.
    Where nobody is named who takes spans, nothing is traced.
    """

    def __init__(self, settings: ServiceSettings, *, version: str, registry: CollectorRegistry) -> None:
        self._settings = settings
        self._version = version
        self._open_exporter = None if settings.sdk_disabled else _exporter(settings)
        self._outcomes = None if self._open_exporter is None else SpanOutcomes(registry)
        self._sdk: TracerProvider | None = None

    @property
    def tracer_provider(self) -> trace.TracerProvider:
        """Return what makes tracers, once this runs; where nothing is traced, one whose spans go nowhere."""
        return NoOpTracerProvider() if self._open_exporter is None else self

    @property
    def tracer(self) -> Tracer:
        """Return the tracer of the service's own spans; to be asked while this runs."""
        return self.tracer_provider.get_tracer("pinhole")

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> Tracer:
        """Return the tracer of a library; to be asked while this runs."""
        assert self._sdk is not None, "telemetry does not run"
        return self._sdk.get_tracer(instrumenting_module_name, instrumenting_library_version, schema_url, attributes)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Trace while the block lasts, in the process that enters it; at its end send what is left.

        A receiver that does not answer then is waited for `FLUSH_SECONDS`.
        """
        if self._open_exporter is None or self._outcomes is None:
            yield
            return
        # The names of attributes that are stable, not those of 2020: read once, at first use.
        os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http,database")
        self._sdk = TracerProvider(
            sampler=_sampler(self._settings),
            resource=_HashedOnce(_resource(self._settings.service, self._version)),
            shutdown_on_exit=False,
        )
        self._sdk.add_span_processor(_HideQueries())
        self._sdk.add_span_processor(
            SpanQueue(self._open_exporter(), self._outcomes, max_size=self._settings.max_queued_spans)
        )
        try:
            yield
        finally:
            # A thread that nobody waits for at the end of the process.
            last = threading.Thread(target=self._sdk.shutdown, name="telemetry", daemon=True)
            last.start()
            await asyncio.to_thread(last.join, FLUSH_SECONDS)

    def watched(self, client: httpx.AsyncClient) -> httpx.AsyncClient:
        """Return `client`, whose requests are traced and pass the trace on in `traceparent` (W3C Trace Context)."""
        if self._sdk is not None:
            from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor

            HTTPXClientInstrumentor.instrument_client(client, tracer_provider=self._sdk)
        return client

    def watch_database(self, engine: "AsyncEngine") -> None:
        """Trace the statements of `engine`, with their text and without their values."""
        if self._sdk is not None:
            from opentelemetry.instrumentation.sqlalchemy.engine import EngineTracer
            from opentelemetry.metrics import NoOpMeter

            no_usage = NoOpMeter("pinhole").create_up_down_counter("unused")
            EngineTracer(self._sdk.get_tracer("sqlalchemy"), engine.sync_engine, no_usage)  # type: ignore[no-untyped-call]

    def watch_redis(self, client: "Redis") -> None:
        """Trace the commands of `client`, without their keys and values."""
        if self._sdk is not None:
            from opentelemetry.instrumentation.redis import RedisInstrumentor

            RedisInstrumentor.instrument_client(client, tracer_provider=self._sdk)


def exemplar() -> dict[str, str] | None:
    """Return what ties a measurement to the running trace, where that trace is kept."""
    return current_trace() if trace.get_current_span().get_span_context().trace_flags.sampled else None


class _NotByItself(Sampler):
    """Starts a trace with a request alone, not with what a process does by itself: polls, migrations, statements.

    What it calls learns from `traceparent` that this is not sampled, and keeps to it where its sampler is parent-based.
    """

    def __init__(self, requests: Sampler) -> None:
        self._requests = requests

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        is_sampled = trace.get_current_span(parent_context).get_span_context().trace_flags.sampled
        sampler = self._requests if is_sampled or kind is SpanKind.SERVER else ALWAYS_OFF
        return sampler.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        return f"NotByItself({self._requests.get_description()})"


class _HideQueries(SpanProcessor):
    """Hides the values of query strings: names and addresses of people, and secrets in addresses of others' keys."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        attributes = span.attributes or {}
        query, url = attributes.get("url.query"), attributes.get("url.full")
        if isinstance(query, str):
            span.set_attribute("url.query", _without_values(query))
        if isinstance(url, str) and "?" in url:
            address, _, query = url.partition("?")
            span.set_attribute("url.full", f"{address}?{_without_values(query)}")


def _without_values(query: str) -> str:
    return "&".join(f"{pair.partition('=')[0]}=REDACTED" for pair in query.split("&"))


def _sampler(settings: ServiceSettings) -> Sampler:
    roots = {
        "always_on": ALWAYS_ON,
        "always_off": ALWAYS_OFF,
        "traceidratio": TraceIdRatioBased(settings.traces_sampler_arg),
    }
    root = _NotByItself(roots[settings.traces_sampler.removeprefix("parentbased_")])
    return ParentBased(root) if settings.traces_sampler.startswith("parentbased_") else root


class _HashedOnce(Resource):
    """Who sends the spans. What encodes them asks for the hash with each one, and that of the SDK is made of JSON."""

    def __init__(self, resource: Resource) -> None:
        super().__init__(resource.attributes, resource.schema_url)
        self._hash = super().__hash__()

    def __hash__(self) -> int:
        return self._hash


def _resource(service: str, version: str) -> Resource:
    """Return who sends the spans; `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` win."""
    return Resource.create(
        {
            "service.name": service,
            "service.namespace": "pinhole",
            "service.version": version,
            "service.instance.id": str(uuid4()),
            **OTELResourceDetector().detect().attributes,
        }
    )


def _exporter(settings: ServiceSettings) -> Callable[[], SpanExporter] | None:
    """Return what opens the way to the receiver; None where nobody is named who takes spans."""
    if settings.traces_exporter == "console":
        return ConsoleSpanExporter
    endpoint = settings.otlp_traces_endpoint or settings.otlp_endpoint
    if settings.traces_exporter == "none" or endpoint is None:
        return None
    # Imported here, so that a process does not carry the protocol that it does not speak.
    if settings.otlp_protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as OverGrpc

        return partial(OverGrpc, endpoint=endpoint, insecure=endpoint.startswith("http://"))
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as OverHttp

    return partial(OverHttp, endpoint=settings.otlp_traces_endpoint or endpoint.rstrip("/") + "/v1/traces")
