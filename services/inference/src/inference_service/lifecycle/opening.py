"""The models of a process, from its start to its end."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from servicekit.background import running
from servicekit.health import Readiness

from inference_service.ending import Ending
from inference_service.lifecycle.loading import Loader
from inference_service.lifecycle.registry import ModelRegistry
from inference_service.metrics import InferenceMetrics
from inference_service.model import ModelSource


@contextlib.asynccontextmanager
async def open_models(
    sources: Sequence[ModelSource],
    readiness: Readiness,
    metrics: InferenceMetrics,
    loader: Loader,
    *,
    ending: Ending | None = None,
    prepare: Callable[[], object],
    follow: Callable[[ModelRegistry], Awaitable[None]] | None = None,
) -> AsyncIterator[ModelRegistry]:
    """Yield the models at once; they are loaded meanwhile, and then `follow` changes them.

    At the end `ending` begins, so that what loads them then is not waited for to its own end.
    """
    models = ModelRegistry(sources, readiness, metrics, loader, prepare=prepare)

    async def load() -> None:
        await models.load(sources)
        if follow:
            await follow(models)

    async with running(load(), name="load-models"), running(models.search_modes(), name="search-modes"):
        try:
            yield models
        finally:
            if ending:
                ending.begin()
