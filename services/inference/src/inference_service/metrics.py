"""What the inference service tells Prometheus beside its HTTP requests."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from servicekit.metrics import DURATION_BUCKETS
from servicekit.problem import Problem
from servicekit.telemetry import exemplar

from inference_service.compute.cascade import Cascade
from inference_service.model import Model
from inference_service.statistics import StatisticsBook
from inference_service.timings import STAGES, StageTimings
from inference_service.version_metrics import VersionMetrics

Rejection = Literal["queue_full", "too_late", "body_bytes", "rate"]
"""Why a request was turned away before anything was computed."""

CacheOutcome = Literal["hit", "miss", "shared", "off"]
"""Whether an answer was there, was computed, came with that of an equal request, or there is no cache."""

Comparison = Literal["agree", "disagree", "failed", "dropped"]
"""What came of an answer that a shadow was to give as well; dropped where there was no time for it."""

_OUTCOMES = {415: "invalid", 422: "invalid", 503: "rejected", 504: "timeout"}
_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class InferenceMetrics:
    """Requests, their stages and what they take. Labels are bounded: known models, stages, outcomes."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.statistics = StatisticsBook()
        """The same in the counts that the inference protocol has."""

        self.versions = VersionMetrics(registry)

        stage_duration_seconds = Histogram(
            "inference_stage_duration_seconds",
            "Time that a request spent in one stage.",
            ["stage"],
            buckets=DURATION_BUCKETS,
            registry=registry,
        )
        self._stage_duration_seconds = {stage: stage_duration_seconds.labels(stage) for stage in STAGES}
        self._requests = Counter(
            "inference_requests",
            "Pictures for a model, by what came of it: ok, invalid, rejected, timeout, cancelled or error.",
            ["model", "outcome"],
            registry=registry,
        )
        self._in_flight = Gauge(
            "inference_requests_in_flight",
            "Pictures that are being decoded, computed or waiting for it.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.queue_size = Gauge(
            "inference_queue_size",
            "Pictures that are admitted and in no batch yet, those that are being decoded among them.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.queue_capacity = Gauge(
            "inference_queue_capacity",
            "Pictures that may be admitted and in no batch; one more is shed.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._request_duration_seconds = Histogram(
            "inference_request_duration_seconds",
            "Time from the whole body of a picture to its classes or logits, of those that were answered.",
            ["model"],
            buckets=DURATION_BUCKETS,
            registry=registry,
        )
        self._batch_size = Histogram(
            "inference_batch_size",
            "Pictures that were computed together.",
            buckets=_BATCH_SIZES,
            registry=registry,
        )
        self._recomputed = Counter(
            "inference_recomputed_pictures",
            "Pictures that a cascade has computed twice, as their two likeliest classes were close.",
            registry=registry,
        )
        self._device_busy_seconds = Counter(
            "inference_device_busy_seconds",
            "Time that a device has computed: how fast this grows is the part of it that is in use.",
            ["device"],
            registry=registry,
        )
        rejections = Counter(
            "inference_rejections",
            "Requests that were turned away before anything was computed, by the reason.",
            ["reason"],
            registry=registry,
        )
        self._rejections = {reason: rejections.labels(reason) for reason in get_args(Rejection)}
        self.body_bytes = Gauge(
            "inference_body_bytes",
            "Bytes of the bodies that are held in memory.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        cache_requests = Counter(
            "inference_cache_requests",
            "Answers, by where they came from: hit, miss, shared with an equal request, or off.",
            ["outcome"],
            registry=registry,
        )
        self._cache_requests = {outcome: cache_requests.labels(outcome) for outcome in get_args(CacheOutcome)}
        self.cache_failures = Counter(
            "inference_cache_failures",
            "Times that the shared cache did not answer.",
            registry=registry,
        )
        self.cache_bytes = Gauge(
            "inference_cache_bytes",
            "Bytes of the cache in memory.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._shadow_comparisons = Counter(
            "inference_shadow_comparisons",
            "Answers that a shadow was to give as well, by the label that it names first: agree, disagree, "
            "failed, or dropped as there was other work.",
            ["model", "outcome"],
            registry=registry,
        )
        self._gpu_memory_bytes = Gauge(
            "inference_gpu_memory_bytes",
            "Memory of a GPU that tensors of this service take, and that torch has reserved for them.",
            ["device", "state"],
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._gpu_memory_limit_bytes = Gauge(
            "inference_gpu_memory_limit_bytes",
            "Memory that a GPU has, whoever uses it.",
            ["device"],
            multiprocess_mode="livemax",
            registry=registry,
        )
        self._thread_budget = Gauge(
            "inference_thread_budget",
            "Threads that work at once: decode is the pool for pictures, compute those inside one forward pass.",
            ["pool"],
            multiprocess_mode="livemax",
            registry=registry,
        )

    @contextmanager
    def request(self, model: str, timings: StageTimings) -> Iterator[None]:
        """Count one request, and at its end what came of it and its stages."""
        outcome = "error"
        self._in_flight.inc()
        try:
            yield
            outcome = "ok"
        except Problem as problem:
            outcome = _OUTCOMES.get(problem.status, "error")
            raise
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            self._in_flight.dec()
            self._requests.labels(model, outcome).inc()
            traced = exemplar()
            for stage, seconds in timings.seconds().items():
                self._stage_duration_seconds[stage].observe(seconds, traced)

    @contextmanager
    def classification(self, model: str, timings: StageTimings) -> Iterator[None]:
        """Count one request as `request` does, and measure how long its answer took, where there is one."""
        started = time.perf_counter()
        with self.request(model, timings):
            yield
        self._request_duration_seconds.labels(model).observe(time.perf_counter() - started, exemplar())

    def batch_computed(self, model: Model, rows: int, seconds: float, *, share: float) -> None:
        """Count one batch, and the time that the device of its model took: of a batch beside others its `share`."""
        self._batch_size.observe(rows)
        if isinstance(model.network, Cascade):
            self._recomputed.inc(model.network.take_recomputed())
        self._device_busy_seconds.labels(model.device).inc(seconds * share)
        self.statistics.of(model.network).batch(rows, seconds)

    def rejected(self, reason: Rejection) -> None:
        """Count one request that was turned away."""
        self._rejections[reason].inc()

    def answered(self, outcome: CacheOutcome) -> None:
        """Count one answer by where it came from."""
        self._cache_requests[outcome].inc()

    def show_thread_budget(self, *, decode: int, compute: int) -> None:
        """Show how many threads there are for each kind of work."""
        self._thread_budget.labels("decode").set(decode)
        self._thread_budget.labels("compute").set(compute)

    def show_gpu_memory(self, device: str, *, allocated: int, reserved: int, limit: int) -> None:
        """Show how many bytes of a GPU are taken, held and there."""
        self._gpu_memory_bytes.labels(device, "allocated").set(allocated)
        self._gpu_memory_bytes.labels(device, "reserved").set(reserved)
        self._gpu_memory_limit_bytes.labels(device).set(limit)

    def compared(self, model: str, outcome: Comparison) -> None:
        """Count one answer that a shadow was to give as well."""
        self._shadow_comparisons.labels(model, outcome).inc()
