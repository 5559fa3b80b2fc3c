"""The models of this process by name and version, and how far each one is."""

import asyncio
import math
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from enum import StrEnum
from functools import partial

from servicekit.garbage import settle
from servicekit.health import Readiness
from servicekit.logs import get_logger
from torch.fx import GraphModule

from inference_service.errors import ModelNotReady, UnknownModel
from inference_service.executors import open_executor
from inference_service.lifecycle.loading import Loader
from inference_service.metrics import InferenceMetrics
from inference_service.model import Model, ModelSource, ModelUnavailable

MODEL_NEED = "model"
"""What `Readiness` calls having had every model loaded and warm."""

log = get_logger(__name__)


class ModelState(StrEnum):
    """How far a model is."""

    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"
    UNLOADED = "unloaded"


class ServedModel:
    """One version of a model from its source to its answers."""

    def __init__(self, source: ModelSource) -> None:
        self.source = source
        self.state = ModelState.LOADING
        self.reason: str | None = None
        """Why it is not served, or why it is still served as it was before a change."""

        self.model: Model | None = None
        self.unloaded_at = -math.inf
        self.stopped = False
        """Whether it has failed as a canary or a shadow, and is none until it is loaded anew."""

    @property
    def weight(self) -> float | None:
        """Return the percent of the callers that it answers as a canary; None where it is none."""
        return 0.0 if self.stopped and self.source.weight is not None else self.source.weight

    @property
    def shadow(self) -> float | None:
        """Return the percent of the requests that it goes along with; None where it is no shadow."""
        return 0.0 if self.stopped and self.source.shadow is not None else self.source.shadow

    def stop(self, reason: str) -> None:
        """Let it be no canary and no shadow any more."""
        self.stopped, self.reason = True, reason

    def resume(self) -> None:
        """Forget what was wrong with it."""
        self.stopped, self.reason = False, None

    def require(self) -> Model:
        """Return the loaded model. Who holds it may use it to the end, also when it is replaced.

        Raises:
            ModelNotReady: it is not there yet, or could not be loaded.
        """
        if self.model is None:
            raise ModelNotReady(f"{self.source.name}: {self.reason or self.state}")
        return self.model


class ModelRegistry:
    """Models by name and version. The first is the one that answers where a caller names none.

    `prepare` is called on each thread that loads: that is not the one which computes, so requests are
    answered meanwhile.
    """

    def __init__(
        self,
        sources: Sequence[ModelSource],
        readiness: Readiness,
        metrics: InferenceMetrics,
        loader: Loader,
        *,
        prepare: Callable[[], object] = lambda: None,
    ) -> None:
        self._models = {(source.name, source.version): ServedModel(source) for source in sources}
        self._default = sources[0].name
        self._readiness = readiness
        self._metrics = metrics
        self._loader = loader
        self._prepare = prepare
        self._changing = asyncio.Lock()
        # Weak: a version that is let go before its search begins is not kept in memory for it.
        self._loaded: asyncio.Queue[weakref.ref[ServedModel]] = asyncio.Queue()

    def __iter__(self) -> Iterator[ServedModel]:
        """Go through the models in the order of their sources."""
        return iter(self._models.values())

    def get(self, name: str | None = None, version: str | None = None) -> ServedModel:
        """Return one model; without `version` the newest stable one that is ready, and the newest where none is.

        Raises:
            UnknownModel: there is none of that name and version.
        """
        versions = self.versions(name)
        if version is None:
            stable = [served for served in versions if served.source.is_stable] or versions
            return next((served for served in stable if served.model), stable[0])
        if found := next((served for served in versions if served.source.version == version), None):
            return found
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

    async def load(self, sources: Sequence[ModelSource]) -> None:
        """Serve what `sources` name: load what is new or has changed, then let go of what is not named.

        A version that fails leaves the one before it in place, also one that `sources` no longer name.
        """
        async with self._changing, self._freeing():
            await self._serve(sources)

    async def reload(self, sources: Sequence[ModelSource]) -> None:
        """Load what `sources` name anew, whether it has changed or not; what they do not name stays as it is."""
        asked_at = time.monotonic()
        async with self._changing, self._freeing():
            for source in sources:
                served = self._models.setdefault((source.name, source.version), ServedModel(source))
                if served.unloaded_at <= asked_at:  # else it has waited here meanwhile
                    await self._load(served, source)
            self._tell_readiness()

    async def unload(self, name: str) -> None:
        """Let go of every version of a model, until it is loaded again. Who has begun with it goes on to the end.

        Raises:
            UnknownModel: there is none of that name.
        """
        async with self._freeing():  # no load is waited for, as it may take minutes: what it gives is not served
            for served in self.versions(name):
                self._metrics.versions.gone(served.source, served.model)
                self._resume(served)
                served.model, served.state, served.unloaded_at = None, ModelState.UNLOADED, time.monotonic()
                log.info("model_unloaded", model=name, version=served.source.version)
            if not self._changing.locked():  # else the load tells it at its end
                self._tell_readiness()

    async def _serve(self, sources: Sequence[ModelSource]) -> None:
        wanted = {(source.name, source.version): source for source in sources}
        for key, source in wanted.items():
            served = self._models.setdefault(key, ServedModel(source))
            if served.model is None or served.source != source:
                await self._load(served, source)
            elif not served.stopped:
                served.reason = None  # of a change that failed and was taken back
        self._take_over(wanted)
        self._models = {key: self._models[key] for key in (*wanted, *(self._models.keys() - wanted.keys()))}
        self._default = sources[0].name
        self._tell_readiness()

    def _tell_readiness(self) -> None:
        failures = [f"{served.source.name}: {served.reason}" for served in self if served.state is ModelState.FAILED]
        if not failures:
            self._readiness.is_met(MODEL_NEED)
        elif MODEL_NEED in self._readiness.missing:
            # A process that has been ready stays so: the others it serves as before.
            self._readiness.is_missing(MODEL_NEED, "; ".join(failures))

    @asynccontextmanager
    async def _freeing(self) -> AsyncIterator[None]:
        """Free the programs that were served before the block and are not after it.

        A program is part of a cycle, and the garbage collector leaves out what was there at the last load: it has to
        be told.
        """
        programs = [weakref.ref(program) for program in self._programs()]
        yield
        if any(program() not in (None, *self._programs()) for program in programs):
            await asyncio.to_thread(settle)

    def _programs(self) -> list[GraphModule]:
        networks = [served.model.network for served in self if served.model]
        return [network for network in networks if isinstance(network, GraphModule)]

    async def _load(self, served: ServedModel, source: ModelSource) -> None:
        if served.model is None:
            served.state = ModelState.LOADING
        # Where nothing answers yet, or the start waits for it, the model does at once, and becomes faster meanwhile.
        is_up = MODEL_NEED not in self._readiness.missing
        answered = is_up and any(other.model for other in self.versions(source.name))
        started = time.perf_counter()
        try:
            model = await self._on_a_thread(partial(self._loader.load, source, search=answered))
        except Exception as error:
            served.reason = str(error) if isinstance(error, ModelUnavailable) else f"failed with {type(error).__name__}"
            if served.state is ModelState.LOADING:
                served.source, served.state = source, ModelState.FAILED
            self._metrics.versions.failed(source)
            is_fault = not isinstance(error, ModelUnavailable)
            log.error(  # noqa: TRY400 a traceback tells nobody more of a file that is missing
                "model_failed", model=source.name, source=source.uri, reason=served.reason, exc_info=is_fault
            )
        else:
            if served.state is ModelState.UNLOADED:
                return
            self._switch(served, source, model)
            self._resume(served)
            self._loaded.put_nowait(weakref.ref(served))
            self._metrics.versions.loaded(source, time.perf_counter() - started)

    async def search_modes(self) -> None:
        """Go over to the fastest mode of each model that is loaded and for which none is set or known, for ever.

        Models come and go meanwhile: a search takes minutes.
        """
        while True:
            served = (await self._loaded.get())()
            if served and served.model and self._loader.can_search(served.source, served.model):
                await self._search_mode(served, served.model)

    async def _search_mode(self, served: ServedModel, model: Model) -> None:
        try:
            found = await self._on_a_thread(partial(self._loader.search, served.source, model))
        except Exception:
            log.exception("mode_search_failed", model=served.source.name)
        else:
            if served.model is model and served in self._models.values():
                async with self._freeing():
                    self._metrics.statistics.go_on(model.network, found.network)
                    self._switch(served, served.source, found)
                    del model

    def _switch(self, served: ServedModel, source: ModelSource, model: Model) -> None:
        self._metrics.versions.gone(served.source, served.model)
        served.model, served.source, served.state = model, source, ModelState.READY
        self._metrics.versions.ready(source, model)
        log.info(
            "model_ready",
            model=source.name,
            version=source.version,
            source=source.uri,
            device=model.device,
            mode=model.mode,
            measured=[found.model_dump(exclude_none=True) for found in model.measurements],
        )

    async def _on_a_thread(self, work: Callable[[], Model]) -> Model:
        async with open_executor("load", 1, prepare=self._prepare) as thread:
            return await asyncio.get_running_loop().run_in_executor(thread, work)

    def _resume(self, served: ServedModel) -> None:
        if served.stopped:
            self._metrics.versions.show_stopped(served.source, is_stopped=False)
        served.resume()

    def _take_over(self, wanted: Mapping[tuple[str, str], ModelSource]) -> None:
        """Give each version the part that it is to have, and let go of each that is not wanted.

        Where no stable version of a model is ready, its others keep their parts: one of them answers.
        """
        names = {name for name, _ in wanted}
        answering = {key[0] for key, source in wanted.items() if source.is_stable and self._models[key].model}
        for key, source in wanted.items():
            served = self._models[key]
            if key[0] in answering and served.source == source:
                served.source = source
                if served.stopped and source.is_stable:
                    self._resume(served)
        for key in self._models.keys() - wanted.keys():
            if key[0] in answering or key[0] not in names:
                served = self._models.pop(key)
                self._resume(served)
                self._metrics.versions.gone(served.source, served.model)
                self._metrics.versions.forget(served.source)
                log.info("model_retired", model=served.source.name, version=served.source.version)
