"""Models that come and go while the service runs, as administrators ask."""

import asyncio
from collections.abc import Callable, Iterable, Sequence

from inference_service.errors import ModelControlOff, ModelNotLoaded, UnknownModel
from inference_service.lifecycle.registry import ModelRegistry
from inference_service.model import ModelSource
from inference_service.sources.models_file import BadModelsFile

_KNOWN_PARAMETERS = {"unload_dependents"}
"""Triton has others, which bring a model along: here each one is named in `models.yaml`."""


class ModelControl:
    """Loads and unloads what `read_sources` returns; it is called on a thread."""

    def __init__(
        self, models: ModelRegistry, read_sources: Callable[[], Sequence[ModelSource]], *, is_on: bool
    ) -> None:
        self._models = models
        self._read_sources = read_sources
        self._is_on = is_on
        self._loading: set[asyncio.Task[None]] = set()

    async def load(self, name: str, parameters: Iterable[str] = ()) -> None:
        """Load every version of a model anew. One that fails leaves what was served before in place.

        It goes on where its caller leaves meanwhile.

        Raises:
            ModelControlOff: the setting does not allow it.
            UnknownModel: no model of that name is configured.
            ModelNotLoaded: a version could not be loaded, or a parameter is not known.
        """
        self._check(parameters)
        try:
            sources = [source for source in await asyncio.to_thread(self._read_sources) if source.name == name]
        except BadModelsFile as error:
            raise ModelNotLoaded(str(error)) from None
        if not sources:
            raise UnknownModel(f"there is no model named {name}")
        loading = asyncio.create_task(self._models.reload(sources), name="load-model")
        self._loading.add(loading)  # the loop alone would not keep it
        loading.add_done_callback(self._loading.discard)
        await asyncio.shield(loading)
        versions = {source.version for source in sources}
        failed = [
            f"version {served.source.version}: {served.reason or 'unloaded meanwhile'}"
            for served in self._models.versions(name)
            if (served.reason or served.model is None) and served.source.version in versions
        ]
        if failed:
            raise ModelNotLoaded(f"failed to load {name}: {'; '.join(failed)}")

    async def unload(self, name: str, parameters: Iterable[str] = ()) -> None:
        """Let go of every version of a model, until it is loaded again or `models.yaml` changes.

        Raises:
            ModelControlOff: the setting does not allow it.
            UnknownModel: there is no model of that name.
            ModelNotLoaded: a parameter is not known.
        """
        self._check(parameters)
        await self._models.unload(name)

    def _check(self, parameters: Iterable[str]) -> None:
        if not self._is_on:
            raise ModelControlOff("INFERENCE_MODEL_CONTROL is off")
        if unknown := set(parameters) - _KNOWN_PARAMETERS:
            raise ModelNotLoaded(f"the parameter {min(unknown)!r} is not supported")
