"""Prometheus metrics in the registry of an application: of one process, or of all workers of gunicorn.

Several workers keep their values in files of a folder that they share, and each of them answers with the
sum. A gauge therefore needs a `multiprocess_mode`, and cannot be a function that is called at the scrape.
docs/metrics.yaml lists all metrics.
"""

import os

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import choose_encoder
from prometheus_client.gc_collector import GCCollector
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

DURATION_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
UNMATCHED = "unmatched"
"""The route label of every path that no route answers, so that callers cannot make labels."""


def new_registry() -> CollectorRegistry:
    """Return a registry; where there is one process, with the metrics of it and of its interpreter."""
    registry = CollectorRegistry()
    disable_created_metrics()  # type: ignore[no-untyped-call]  # a series more for each, that no query asks for
    if is_shared():
        return registry
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


class HttpMetrics:
    """Requests as a server sees them, labelled by method, route template and status."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.duration_seconds = Histogram(
            "http_server_request_duration_seconds",
            "Time from the first byte of a request to the last byte of its answer.",
            ["http_request_method", "http_route", "http_response_status_code"],
            buckets=DURATION_BUCKETS,
            registry=registry,
        )
        self.active = Gauge(
            "http_server_active_requests",
            "Requests that are being answered now.",
            multiprocess_mode="livesum",
            registry=registry,
        )


class Readings:
    """What is read from another service again and again: how that goes, and when it last succeeded.

    To be made in each worker by itself: of several, the time is that of the one that is behind the others.
    """

    def __init__(self, registry: CollectorRegistry | None, *, count: str, time: str, what: str) -> None:
        """Take the names of the counter and of the time, and what is read; without `registry` nobody sees them."""
        outcomes = Counter(count, f"Attempts to read {what}.", ["outcome"], registry=registry)
        self._ok, self._failed = outcomes.labels("ok"), outcomes.labels("failed")
        self._read_at = Gauge(
            time,
            f"When {what} was last read to its end, in Unix time; 0 for never.",
            multiprocess_mode="livemin",
            registry=registry,
        )

    def succeeded(self) -> None:
        """Count an attempt, and keep its time."""
        self._ok.inc()
        self._read_at.set_to_current_time()

    def failed(self) -> None:
        """Count an attempt in vain."""
        self._failed.inc()


def metrics_router(registry: CollectorRegistry) -> APIRouter:
    """Return `/metrics`, in the exposition format that the scraper asks for."""
    router = APIRouter(include_in_schema=False)
    shown = registry
    if is_shared():
        shown = CollectorRegistry()
        MultiProcessCollector(shown)  # type: ignore[no-untyped-call]

    @router.get("/metrics")
    async def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(shown), headers={"Content-Type": content_type})

    return router


def is_shared() -> bool:
    """Tell whether several workers keep their values together."""
    return "PROMETHEUS_MULTIPROC_DIR" in os.environ  # set by servicekit.gunicorn, read by prometheus_client
