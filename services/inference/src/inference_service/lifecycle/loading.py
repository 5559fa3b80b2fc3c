"""From a source to a model that may be served: loaded, in its mode, warm and checked."""

import ctypes
import math
from dataclasses import replace
from pathlib import Path

from servicekit.garbage import settle
from servicekit.logs import get_logger

from inference_service.compute.mode_search import ModeSearch
from inference_service.compute.modes import Mode
from inference_service.compute.quantization import quantized, read_ranges
from inference_service.compute.shared_weights import share_weights
from inference_service.heartbeat import Heartbeat
from inference_service.lifecycle.golden import check_golden
from inference_service.model import Model, ModelSource, ModelUnavailable

log = get_logger(__name__)


class Loader:
    """Loads models for batches of up to `max_batch_size`; each method may take minutes. Without `modes` all are eager.

    The workers that share `workers_dir` share the memory of the weights.
    Every method raises `ModelUnavailable` where the model cannot be served. `heartbeat` learns of a GPU that is lost.
    """

    def __init__(
        self,
        max_batch_size: int,
        modes: ModeSearch | None = None,
        workers_dir: Path | None = None,
        heartbeat: Heartbeat | None = None,
    ) -> None:
        self._heartbeat = heartbeat or Heartbeat(math.inf)
        self._max_batch_size = max_batch_size
        self._modes = modes
        self._workers_dir = workers_dir

    def load(self, source: ModelSource, *, search: bool) -> Model:
        """Return the model in the mode that is set or known for it; else, with `search`, in the one that is found."""
        with self._heartbeat.gpu_use():
            return self._loaded(source, search=search)

    def _loaded(self, source: ModelSource, *, search: bool) -> Model:
        model = source.load()
        if source.calibration is not None:
            model = quantized(model, read_ranges(source.calibration, digest=model.digest))
        elif self._modes is not None:
            model = self._modes.settle(model, source.mode)
            if (search or self._modes.comes_first) and self.can_search(source, model):
                return self.search(source, model)
        try:
            return self._tried(source, model)
        except ModelUnavailable as error:
            if not model.measurements:
                raise
            # A mode that was found before is one of several: there may be golden pictures now that it is wrong about.
            log.warning("mode_not_restored", mode=model.mode, reason=str(error))
            return self._tried(source, source.load())

    def can_search(self, source: ModelSource, model: Model) -> bool:
        """Tell whether the mode of a model is neither set nor known."""
        return self._modes is not None and model.mode is Mode.EAGER and self._modes.is_open(model, source.mode)

    def search(self, source: ModelSource, model: Model) -> Model:
        """Return an eager model in the fastest mode that is as good. The model may be served meanwhile."""
        assert self._modes is not None
        with self._heartbeat.gpu_use():
            return self._modes.search(self._tried(source, model), source.mode, accept=lambda m: self._tried(source, m))

    def _tried(self, source: ModelSource, model: Model) -> Model:
        if self._workers_dir is not None:
            share_weights(model, self._workers_dir)
        model = replace(model, batch_seconds=model.warm_up(self._max_batch_size))
        check_golden(model, source.golden)
        _release_memory()
        return model


def _release_memory() -> None:
    """Give back what loading and the largest batches took: the C library keeps it, 136 MB of a ResNet-50."""
    settle()
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):  # glibc's alone
        trim(0)
