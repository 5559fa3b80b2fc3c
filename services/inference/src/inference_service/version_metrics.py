"""What the service tells Prometheus of the versions of its models."""

from prometheus_client import CollectorRegistry, Counter, Gauge
from servicekit.metrics import is_shared

from inference_service.model import Model, ModelSource


class VersionMetrics:
    """Which versions there are, how they came to be served, and which were stopped."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._info = Gauge(
            "inference_model_info",
            "1 for each model that is ready; where there are several workers, 0 for one that was.",
            ["model", "version", "source", "device", "dtype", "mode", "digest"],
            multiprocess_mode="livemax",
            registry=registry,
        )
        self._images_per_second = Gauge(
            "inference_model_images_per_second",
            "What the search for the fastest mode has measured, in batches of the largest size.",
            ["model", "version", "mode"],
            multiprocess_mode="livemax",
            registry=registry,
        )
        self._loads = Counter(
            "inference_model_loads",
            "Versions of models that were loaded, by what came of it: ready or failed.",
            ["model", "outcome"],
            registry=registry,
        )
        self._load_seconds = Gauge(
            "inference_model_load_duration_seconds",
            "Time from the source of a version to its being served, its warm-up included.",
            ["model", "version"],
            multiprocess_mode="livemax",
            registry=registry,
        )
        self._rollout_stopped = Gauge(
            "inference_rollout_stopped",
            "1 for a canary or a shadow that was stopped as it has failed, 0 once it is loaded anew or unloaded.",
            ["model", "version"],
            multiprocess_mode="livemax",
            registry=registry,
        )

    def ready(self, source: ModelSource, model: Model) -> None:
        """Show a model, what it runs on, and how fast that is."""
        self._info.labels(*_labels(source, model)).set(1)
        for found in model.measurements:
            if found.images_per_second is not None:
                labels = source.name, source.version, found.mode
                self._images_per_second.labels(*labels).set(found.images_per_second)

    def gone(self, source: ModelSource, model: Model | None) -> None:
        """Show that a model is no longer served."""
        if model is None:
            return
        if is_shared():  # from the files that workers keep nothing can be removed
            self._info.labels(*_labels(source, model)).set(0)
        else:
            self._info.remove(*_labels(source, model))

    def forget(self, source: ModelSource) -> None:
        """Show nothing more of a version: the next ones have other numbers."""
        if not is_shared():
            for gauge in (self._images_per_second, self._load_seconds, self._rollout_stopped):
                gauge.remove_by_labels({"model": source.name, "version": source.version})

    def loaded(self, source: ModelSource, seconds: float) -> None:
        """Count one version that came to be served."""
        self._loads.labels(source.name, "ready").inc()
        self._load_seconds.labels(source.name, source.version).set(seconds)

    def show_stopped(self, source: ModelSource, *, is_stopped: bool) -> None:
        """Show whether a canary or a shadow was stopped."""
        self._rollout_stopped.labels(source.name, source.version).set(is_stopped)

    def failed(self, source: ModelSource) -> None:
        """Count one version that could not be loaded."""
        self._loads.labels(source.name, "failed").inc()


def _labels(source: ModelSource, model: Model) -> tuple[str, ...]:
    return source.name, source.version, source.uri, model.device, model.dtype_name, model.mode, model.digest
