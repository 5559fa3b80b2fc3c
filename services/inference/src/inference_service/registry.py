"""The models of this process by name, and how far each one is."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import Executor
from enum import StrEnum

from servicekit.health import Readiness
from servicekit.logs import get_logger

from inference_service.errors import ModelNotReady, UnknownModel
from inference_service.metrics import InferenceMetrics
from inference_service.model import Model, ModelSource, ModelUnavailable

MODEL_NEED = "model"
"""What `Readiness` calls having every model loaded and warm."""

log = get_logger(__name__)


class ModelState(StrEnum):
    """How far a model is."""

    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"


class ServedModel:
    """One version of a model from its source to its answers."""

    def __init__(self, source: ModelSource) -> None:
        self.source = source
        self.state = ModelState.LOADING
        self.reason: str | None = None
        self.model: Model | None = None

    def require(self) -> Model:
        """Return the loaded model.

        Raises:
            ModelNotReady: it is not there yet, or could not be loaded.
        """
        if self.model is None:
            raise ModelNotReady(f"{self.source.name}: {self.reason or self.state}")
        return self.model


class ModelRegistry:
    """Models by name and version. The first is the one that answers where a caller names none."""

    def __init__(self, sources: Sequence[ModelSource], readiness: Readiness, metrics: InferenceMetrics) -> None:
        self._models = {(source.name, source.version): ServedModel(source) for source in sources}
        self._default = sources[0].name
        self._readiness = readiness
        self._metrics = metrics

    def __iter__(self) -> Iterator[ServedModel]:
        """Go through the models in the order of their sources."""
        return iter(self._models.values())

    def get(self, name: str | None = None, version: str | None = None) -> ServedModel:
        """Return one model; without `version` the newest that is ready, and the newest where none is.

        Raises:
            UnknownModel: there is none of that name and version.
        """
        versions = self.versions(name)
        if version is None:
            return next((served for served in versions if served.model), versions[0])
        for served in versions:
            if served.source.version == version:
                return served
        raise UnknownModel(f"there is no version {version} of {versions[0].source.name}")

    def versions(self, name: str | None = None) -> list[ServedModel]:
        """Return every version of one model, the newest (the highest number) first.

        Raises:
            UnknownModel: there is none of that name.
        """
        name = name or self._default
        versions = [served for served in self if served.source.name == name]
        if not versions:
            raise UnknownModel(f"there is no model named {name}")
        return sorted(versions, key=lambda served: int(served.source.version), reverse=True)

    async def load(self, model_thread: Executor) -> None:
        """Load and warm each model on `model_thread`; a failure is kept with its reason."""
        for served in self:
            await self._load(served, model_thread)
        if all(served.model for served in self):
            self._readiness.is_met(MODEL_NEED)

    async def _load(self, served: ServedModel, model_thread: Executor) -> None:
        source = served.source
        try:
            model = await asyncio.get_running_loop().run_in_executor(model_thread, _load_and_warm, source)
        except Exception as error:
            served.state = ModelState.FAILED
            served.reason = str(error) if isinstance(error, ModelUnavailable) else f"failed with {type(error).__name__}"
            self._readiness.is_missing(MODEL_NEED, f"{source.name}: {served.reason}")
            log.exception("model_failed", model=source.name, source=source.uri, reason=served.reason)
        else:
            served.model, served.state = model, ModelState.READY
            self._metrics.model_is_ready(source, model)
            log.info("model_ready", model=source.name, version=source.version, source=source.uri, device=model.device)


@contextlib.asynccontextmanager
async def open_models(
    sources: Sequence[ModelSource], model_thread: Executor, readiness: Readiness, metrics: InferenceMetrics
) -> AsyncIterator[ModelRegistry]:
    """Yield the models at once; they are loaded meanwhile."""
    models = ModelRegistry(sources, readiness, metrics)
    loading = asyncio.create_task(models.load(model_thread), name="load-models")
    try:
        yield models
    finally:
        loading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await loading


def _load_and_warm(source: ModelSource) -> Model:
    model = source.load()
    model.warm_up()
    return model
