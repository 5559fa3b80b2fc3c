"""What the endpoints are given: the state of the lifespan, the caller and the picture."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Annotated, TypedDict

from fastapi import Depends, Header, Path, Query, Request
from opentelemetry.trace import Tracer
from pydantic import Field, WithJsonSchema
from servicekit.auth import Principal, Verifications, get_tracer, require_scope
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


async def get_settings(request: Request) -> InferenceSettings:
    """Return the settings of this process."""
    settings: InferenceSettings = request.state.settings
    return settings


async def get_models(request: Request) -> ModelRegistry:
    """Return the models of this process."""
    models: ModelRegistry = request.state.models
    return models


async def get_pipeline(request: Request) -> Pipeline:
    """Return the way from a picture to its classes."""
    pipeline: Pipeline = request.state.pipeline
    return pipeline


async def get_explainer(request: Request) -> Explainer:
    """Return the way from a picture to what speaks for its class."""
    explainer: Explainer = request.state.explainer
    return explainer


async def get_bodies(request: Request) -> BodyBudget:
    """Return the count of the bodies in memory."""
    bodies: BodyBudget = request.state.bodies
    return bodies


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
PipelineDep = Annotated[Pipeline, Depends(get_pipeline)]
ExplainerDep = Annotated[Explainer, Depends(get_explainer)]
BodiesDep = Annotated[BodyBudget, Depends(get_bodies)]
StatisticsDep = Annotated[StatisticsBook, Depends(get_statistics)]
ControlDep = Annotated[ModelControl, Depends(get_control)]
TracerDep = Annotated[Tracer, Depends(get_tracer)]
Caller = Annotated[Principal, require_scope("inference:predict")]
Administrator = Annotated[Principal, require_scope("inference:admin")]


_NAME = "efficientnet-lite0"
ModelName = Annotated[str, Path(max_length=128, examples=[_NAME])]
_VERSION_PATTERN = r"^[1-9][0-9]{0,8}$"


async def get_chosen_model(
    caller: Caller,
    models: ModelsDep,
    model: Annotated[
        str | None,
        Query(max_length=128, description="Which model to ask. By default the first.", examples=[_NAME]),
    ] = None,
    version: Annotated[
        str | None,
        Query(
            pattern=_VERSION_PATTERN,
            description="Which version of it. By default the newest stable one that is ready, or the canary.",
            examples=["1"],
        ),
    ] = None,
) -> ServedModel:
    """Return the model that a caller asks for."""
    return choose(models, caller.subject, model, version)


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


ChosenModelDep = Annotated[ServedModel, Depends(get_chosen_model)]
NamedModelDep = Annotated[ServedModel, Depends(get_named_model)]
NamedVersionDep = Annotated[ServedModel, Depends(get_named_version)]
NamedVersionsDep = Annotated[list[ServedModel], Depends(get_named_versions)]


async def get_timeout(
    settings: SettingsDep,
    x_request_timeout: Annotated[
        Annotated[float, Field(gt=0, le=MAX_TIMEOUT_SECONDS, allow_inf_nan=False)] | None,
        # To leave the header out is valid, `null` is not.
        WithJsonSchema({"type": "number", "exclusiveMinimum": 0, "maximum": MAX_TIMEOUT_SECONDS}),
        Header(
            alias="X-Request-Timeout",
            description="Seconds from the whole body to the answer that the caller waits for.",
            examples=[2.5],
        ),
    ] = None,
) -> float:
    """Return how many seconds the answer may take."""
    return settings.request_timeout_seconds if x_request_timeout is None else x_request_timeout


TimeoutDep = Annotated[float, Depends(get_timeout)]


@dataclass(frozen=True, slots=True)
class Upload:
    """An encoded picture, and the clock of its request."""

    data: bytes
    timeout_seconds: float
    timings: StageTimings


async def check_rate(caller: Caller, request: Request) -> None:
    """Count this request of the caller.

    Raises:
        TooManyRequests: it is one too many.
    """
    rates: RateLimiter = request.state.rates
    rates.take(caller.subject)


WithinRate = Annotated[None, Depends(check_rate)]


def read_uploads(priority: Priority) -> Callable[..., AsyncIterator[Upload]]:
    """Return the dependency that reads the picture of a request of this priority."""

    async def get_upload(
        request: Request,
        _within_rate: WithinRate,
        chosen: ChosenModelDep,
        settings: SettingsDep,
        pipeline: PipelineDep,
        bodies: BodiesDep,
        timeout_seconds: TimeoutDep,
        tracer: TracerDep,
    ) -> AsyncIterator[Upload]:
        """Yield the picture in the body; nothing is read for an unknown caller or model, or under overload.

        Raises:
            BodyTooSlow: the body did not come in time.
        """
        pipeline.check(chosen, timeout_seconds=timeout_seconds, priority=priority)
        timings = StageTimings(tracer)
        with bodies.hold(min(declared_length(request), settings.max_image_bytes)) as body:
            try:
                async with asyncio.timeout(settings.body_timeout_seconds):
                    with timings.measure("receive"):
                        data = await read_upload(request, max_bytes=settings.max_image_bytes, count=body.add)
            except TimeoutError:
                raise BodyTooSlow(f"the body did not come within {settings.body_timeout_seconds:g} s") from None
            yield Upload(data, timeout_seconds, timings)

    return get_upload


UploadDep = Annotated[Upload, Depends(read_uploads(Priority.INTERACTIVE))]
LowPriorityUploadDep = Annotated[Upload, Depends(read_uploads(Priority.LOW))]
