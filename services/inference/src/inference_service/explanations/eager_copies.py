"""Networks to look into, of models whose own are closed: compiled ones, and those in 8 bits."""

import asyncio
from concurrent.futures import Executor
from pathlib import Path
from weakref import WeakKeyDictionary

from servicekit.logs import get_logger
from torch import nn

from inference_service.compute.shared_weights import share_weights
from inference_service.explanations.saliency import has_feature_map
from inference_service.model import Model, ModelSource, ModelUnavailable

log = get_logger(__name__)


class EagerCopies:
    """Reads each from its source, on `thread`, when it is first asked for, and keeps it for as long as its model.

    The workers that share `workers_dir` share the memory of the weights.
    """

    def __init__(self, thread: Executor, workers_dir: Path | None = None) -> None:
        self._thread = thread
        self._workers_dir = workers_dir
        self._copies: WeakKeyDictionary[Model, asyncio.Future[nn.Module | None]] = WeakKeyDictionary()

    async def of(self, source: ModelSource, model: Model) -> nn.Module | None:
        """Return what `model` was made of; None where that has no feature map, or is not there any more."""
        if model not in self._copies:
            reading = asyncio.get_running_loop().run_in_executor(self._thread, self._read, source, model.digest)
            self._copies[model] = reading
        # Who leaves meanwhile leaves it for the next who asks.
        return await asyncio.shield(self._copies[model])

    def _read(self, source: ModelSource, digest: str) -> nn.Module | None:
        try:
            found = source.load()
            if found.digest != digest:
                raise ModelUnavailable("its source has other weights by now")  # noqa: TRY301 one place that tells
        except Exception as error:  # as at a load: whatever it is, the picture can be explained without
            log.warning("eager_copy_failed", model=source.name, reason=str(error))
            return None
        if not has_feature_map(found.network):
            return None
        if self._workers_dir is not None:
            share_weights(found, self._workers_dir)
        return found.network
