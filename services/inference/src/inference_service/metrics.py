"""What the inference service tells Prometheus beside its HTTP requests."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from servicekit.metrics import DURATION_BUCKETS
from servicekit.problem import Problem

from inference_service.model import Model, ModelSource
from inference_service.timings import StageTimings

_OUTCOMES = {415: "invalid", 422: "invalid", 504: "timeout"}


class InferenceMetrics:
    """Requests, their stages and the models. Labels are bounded: known models, stages, outcomes."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._stage_duration_seconds = Histogram(
            "inference_stage_duration_seconds",
            "Time that a request spent in one stage.",
            ["stage"],
            buckets=DURATION_BUCKETS,
            registry=registry,
        )
        self._requests = Counter(
            "inference_requests",
            "Pictures that were handed to a model, by what came of it: ok, invalid, timeout, cancelled or error.",
            ["model", "outcome"],
            registry=registry,
        )
        self._in_flight = Gauge(
            "inference_requests_in_flight",
            "Pictures that are being decoded, computed or waiting for it.",
            registry=registry,
        )
        self._model_info = Gauge(
            "inference_model_info",
            "1 for each model that is ready.",
            ["model", "version", "source", "device", "dtype"],
            registry=registry,
        )

        self._model_loads = Counter(
            "inference_model_loads",
            "Versions of models that were loaded, by what came of it: ready or failed.",
            ["model", "outcome"],
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
            for stage, seconds in timings.seconds().items():
                self._stage_duration_seconds.labels(stage).observe(seconds)

    def model_is_ready(self, source: ModelSource, model: Model) -> None:
        """Show a model and what it runs on."""
        self._model_info.labels(*_info(source, model)).set(1)

    def model_is_gone(self, source: ModelSource, model: Model | None) -> None:
        """Show a model no more."""
        if model is not None:
            self._model_info.remove(*_info(source, model))

    def model_was_loaded(self, source: ModelSource, outcome: Literal["ready", "failed"]) -> None:
        """Count one attempt to load a version of a model."""
        self._model_loads.labels(source.name, outcome).inc()


def _info(source: ModelSource, model: Model) -> tuple[str, ...]:
    return source.name, source.version, source.uri, model.device, model.dtype_name
