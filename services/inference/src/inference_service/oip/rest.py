"""The inference protocol over REST: the server, its models and what they say."""

import re
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, Response
from servicekit.health import Readiness
from servicekit.problem import Forbidden, InvalidRequest, Unauthorized

from inference_service.dependencies import (
    Caller,
    ModelsDep,
    NamedModelDep,
    NamedVersionDep,
    NamedVersionsDep,
    SettingsDep,
    StatisticsDep,
)
from inference_service.errors import ModelNotReady, UnknownModel
from inference_service.oip.errors import PREFIX, BadRequest, error_responses
from inference_service.oip.metadata import (
    loaded_statistics,
    model_config,
    model_metadata,
    named_statistics,
    server_metadata,
)
from inference_service.oip.repository import repository_router
from inference_service.oip.rest_infer import InferParameters, VersionInferParameters, infer_router
from inference_service.oip.schemas import (
    ModelConfig,
    ModelMetadata,
    ModelReady,
    ServerLive,
    ServerMetadata,
    ServerReady,
    Statistics,
)

TAG = "inference protocol"
PROBES = re.compile(rf"{PREFIX}/health/(live|ready)|{PREFIX}/models/[^/]+(/versions/[^/]+)?/ready")
"""Asked every second or more often, by what Kubernetes or a proxy starts beside the service."""

_CALLER = (Unauthorized, Forbidden)
_MODEL = (*_CALLER, UnknownModel, InvalidRequest)


def oip_routers(readiness: Readiness, stuck: Callable[[], str | None]) -> Sequence[APIRouter]:
    """Return the routers of all paths; `stuck` says why this process cannot go on, or None."""
    named, numbered = f"{PREFIX}/models/{{name}}", f"{PREFIX}/models/{{name}}/versions/{{version}}"
    return [
        _server_router(readiness, stuck),
        _statistics_router(),
        _model_router(prefix=named, tags=[TAG], served_dep=NamedModelDep),
        infer_router(prefix=named, tags=[TAG], parameters=InferParameters),
        _model_router(prefix=numbered, tags=[TAG], served_dep=NamedVersionDep),
        infer_router(prefix=numbered, tags=[TAG], parameters=VersionInferParameters),
        repository_router(prefix=f"{PREFIX}/repository", tags=[TAG]),
    ]


def _server_router(readiness: Readiness, stuck: Callable[[], str | None]) -> APIRouter:
    """Return what is asked of the server as a whole; it is open to everybody."""
    router = APIRouter(prefix=PREFIX, tags=[TAG])

    @router.get("")
    async def get_server_metadata() -> ServerMetadata:
        """Name the server and its extensions."""
        return server_metadata(version("pinhole-inference"))

    @router.get("/health/live", responses={400: {"model": ServerLive, "description": "It cannot go on."}})
    async def is_server_live(response: Response) -> ServerLive:
        """Tell whether the process runs."""
        live = not stuck()
        response.status_code = _status(live)
        return ServerLive(live=live)

    @router.get("/health/ready", responses={400: {"model": ServerReady, "description": "It is not ready."}})
    async def is_server_ready(response: Response) -> ServerReady:
        """Tell whether all models are loaded and answer."""
        ready = not readiness.missing
        response.status_code = _status(ready)
        return ServerReady(ready=ready)

    return router


def _status(is_good: bool) -> int:
    """Return what Triton answers: some clients look at the status only, others at the body."""
    return 200 if is_good else 400


def _model_router(*, prefix: str, tags: list[Any], served_dep: Any) -> APIRouter:
    """Return what is asked of one model, or of one version of it."""
    router = APIRouter(prefix=prefix, tags=tags)

    @router.get("", responses=error_responses(*_MODEL, ModelNotReady))
    async def get_model_metadata(served: served_dep, versions: NamedVersionsDep) -> ModelMetadata:
        """Describe the inputs and the outputs of a model."""
        return model_metadata(served, versions)

    @router.get("/ready", responses=error_responses(*_MODEL, BadRequest))
    async def is_model_ready(served: served_dep) -> ModelReady:
        """Tell whether a model answers."""
        if served.model is None:
            raise BadRequest("the model is not ready")
        return ModelReady(name=served.source.name, ready=True)

    @router.get("/config", responses=error_responses(*_MODEL, ModelNotReady))
    async def get_model_config(served: served_dep, settings: SettingsDep) -> ModelConfig:
        """Describe how a model is served, as Triton's `ModelConfig` does."""
        return model_config(served, settings)

    return router


def _statistics_router() -> APIRouter:
    router = APIRouter(prefix=f"{PREFIX}/models", tags=[TAG])

    @router.get("/stats", responses=error_responses(*_CALLER))
    async def get_statistics(_caller: Caller, models: ModelsDep, book: StatisticsDep) -> Statistics:
        """Say what all models have done since they were loaded."""
        return loaded_statistics(models, book)

    @router.get("/{name}/stats", responses=error_responses(*_MODEL, ModelNotReady))
    async def get_model_statistics(versions: NamedVersionsDep, book: StatisticsDep) -> Statistics:
        """Say what each version of a model has done since it was loaded."""
        return named_statistics(versions, book)

    @router.get("/{name}/versions/{version}/stats", responses=error_responses(*_MODEL, ModelNotReady))
    async def get_version_statistics(served: NamedVersionDep, book: StatisticsDep) -> Statistics:
        """Say what one version of a model has done since it was loaded."""
        return named_statistics([served], book)

    return router
