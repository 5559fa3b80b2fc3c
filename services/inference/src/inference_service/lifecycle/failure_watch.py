"""Takes a canary or a shadow out that fails too often."""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

from servicekit.logs import get_logger

from inference_service.errors import InferenceFailed
from inference_service.lifecycle.registry import ServedModel
from inference_service.metrics import InferenceMetrics
from inference_service.model import Model

log = get_logger(__name__)


class FailureWatch:
    """Stops a version when at least `share` of its last `window` computations have failed; not before so many."""

    def __init__(self, metrics: InferenceMetrics, *, window: int, share: float) -> None:
        self._metrics = metrics
        self._window = window
        self._share = share
        self._failures: WeakKeyDictionary[Model, deque[bool]] = WeakKeyDictionary()

    @contextmanager
    def judging(self, served: ServedModel, model: Model) -> Iterator[None]:
        """Count what comes of a computation. What is the caller's fault, or took too long, does not count."""
        try:
            yield
        except InferenceFailed:
            self._count(served, model, failed=True)
            raise
        self._count(served, model, failed=False)

    def _count(self, served: ServedModel, model: Model, *, failed: bool) -> None:
        # Who began before a change ends on a model that is no longer served.
        if served.source.is_stable or served.stopped or served.model is not model:
            return
        failures = self._failures.setdefault(model, deque(maxlen=self._window))
        failures.append(failed)
        if len(failures) < self._window or sum(failures) / self._window < self._share:
            return
        served.stop(f"stopped: {sum(failures)} of its last {self._window} computations failed")
        self._metrics.versions.show_stopped(served.source, is_stopped=True)
        log.error("version_stopped", model=served.source.name, version=served.source.version, reason=served.reason)
