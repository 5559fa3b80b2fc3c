"""What the endpoints are given: the state of the lifespan, the caller and the picture."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Annotated, TypedDict, cast

from fastapi import Depends, Header, Path, Query, Request
from opentelemetry.trace import Tracer
from pydantic import Field, WithJsonSchema
from servicekit.auth import Principal, Verifications, require_scope
from servicekit.recording import report_stages
from servicekit.tokens import TokenVerifier

from inference_service.admission import BodyBudget
from inference_service.batching import Priority
from inference_service.errors import BodyTooSlow
from inference_service.explaining import Explainer
from inference_service.model_control import ModelControl
from inference_service.pipeline import Pipeline
from inference_service.rates import RateLimiter
from inference_service.registry import ModelRegistry, ServedModel
from inference_service.rollout import choose
from inference_service.settings import InferenceSettings
from inference_service.statistics import StatisticsBook
from inference_service.timings import StageTimings
from inference_service.uploads import declared_length, read_upload

MAX_TIMEOUT_SECONDS = 300


class State(TypedDict):
    """What the lifespan opens."""

    settings: InferenceSettings
    verifier: TokenVerifier
    verifications: Verifications
    models: ModelRegistry
    bodies: BodyBudget
    rates: RateLimiter
    pipeline: Pipeline
    explainer: Explainer
    statistics: StatisticsBook
    control: ModelControl


class RequestState(State):
    """The state of a request."""

    tracer: Tracer


def state_of(request: Request) -> RequestState:
    """Return all of it, for the paths of pictures: no dependency, each of which takes its time, at each request."""
    return cast(RequestState, request.state)


async def get_settings(request: Request) -> InferenceSettings:
    """Return the settings of this process."""
    settings: InferenceSettings = request.state.settings
    return settings


async def get_models(request: Request) -> ModelRegistry:
    """Return the models of this process."""
    models: ModelRegistry = request.state.models
    return models


async def get_statistics(request: Request) -> StatisticsBook:
    """Return what each model has done."""
    statistics: StatisticsBook = request.state.statistics
    return statistics


async def get_control(request: Request) -> ModelControl:
    """Return what loads and unloads models."""
    control: ModelControl = request.state.control
    return control


SettingsDep = Annotated[InferenceSettings, Depends(get_settings)]
ModelsDep = Annotated[ModelRegistry, Depends(get_models)]
StatisticsDep = Annotated[StatisticsBook, Depends(get_statistics)]
ControlDep = Annotated[ModelControl, Depends(get_control)]
Caller = Annotated[Principal, require_scope("inference:predict")]
Administrator = Annotated[Principal, require_scope("inference:admin")]


_NAME = "efficientnet-lite0"
ModelName = Annotated[str, Path(max_length=128, examples=[_NAME])]
_VERSION_PATTERN = r"^[1-9][0-9]{0,8}$"


ModelQuery = Annotated[
    str | None,
    Query(max_length=128, description="Which model to ask. By default the first.", examples=[_NAME]),
]
VersionQuery = Annotated[
    str | None,
    Query(
        pattern=_VERSION_PATTERN,
        description="Which version of it. By default the newest stable one that is ready, or the canary.",
        examples=["1"],
    ),
]


async def get_named_version(
    _caller: Caller,
    models: ModelsDep,
    name: ModelName,
    version: Annotated[str, Path(pattern=_VERSION_PATTERN, examples=["1"])],
) -> ServedModel:
    """Return the model and version that the path names."""
    return models.get(name, version)


async def get_named_model(caller: Caller, models: ModelsDep, name: ModelName) -> ServedModel:
    """Return the version that answers the caller of the model that the path names."""
    return choose(models, caller.subject, name)


async def get_named_versions(_caller: Caller, models: ModelsDep, name: ModelName) -> list[ServedModel]:
    """Return each version of the model that the path names, the newest first."""
    return models.versions(name)


NamedModelDep = Annotated[ServedModel, Depends(get_named_model)]
NamedVersionDep = Annotated[ServedModel, Depends(get_named_version)]
NamedVersionsDep = Annotated[list[ServedModel], Depends(get_named_versions)]


TimeoutHeader = Annotated[
    Annotated[float, Field(gt=0, le=MAX_TIMEOUT_SECONDS, allow_inf_nan=False)] | None,
    # To leave the header out is valid, `null` is not.
    WithJsonSchema({"type": "number", "exclusiveMinimum": 0, "maximum": MAX_TIMEOUT_SECONDS}),
    Header(
        alias="X-Request-Timeout",
        description="Seconds from the whole body to the answer that the caller waits for.",
        examples=[2.5],
    ),
]


@dataclass(frozen=True, slots=True)
class Upload:
    """An encoded picture, the model that is asked about it, and the clock of the request."""

    data: bytes
    served: ServedModel
    timeout_seconds: float
    timings: StageTimings


def read_uploads(priority: Priority) -> Callable[..., AsyncIterator[Upload]]:
    """Return the dependency that reads the picture of a request of this priority."""

    async def get_upload(
        request: Request,
        caller: Caller,
        model: ModelQuery = None,
        version: VersionQuery = None,
        x_request_timeout: TimeoutHeader = None,
    ) -> AsyncIterator[Upload]:
        """Yield the picture in the body; nothing is read for an unknown caller or model, or under overload.

        Raises:
            TooManyRequests: it is one too many of this caller.
            BodyTooSlow: the body did not come in time.
        """
        state = state_of(request)
        await state["rates"].take(caller.subject)
        served = choose(state["models"], caller.subject, model, version)
        settings = state["settings"]
        timeout_seconds = x_request_timeout or settings.request_timeout_seconds
        state["pipeline"].check(served, timeout_seconds=timeout_seconds, priority=priority)
        held = state["bodies"].hold(min(declared_length(request), settings.max_image_bytes))
        with StageTimings(state["tracer"]) as timings, held as body:
            report_stages(request, timings.seconds)
            try:
                async with asyncio.timeout(settings.body_timeout_seconds):
                    with timings.measure("receive"):
                        data = await read_upload(request, max_bytes=settings.max_image_bytes, count=body.add)
            except TimeoutError:
                raise BodyTooSlow(f"the body did not come within {settings.body_timeout_seconds:g} s") from None
            yield Upload(data, served, timeout_seconds, timings)

    return get_upload


UploadDep = Annotated[Upload, Depends(read_uploads(Priority.INTERACTIVE))]
LowPriorityUploadDep = Annotated[Upload, Depends(read_uploads(Priority.LOW))]
