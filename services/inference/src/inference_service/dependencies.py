"""What the endpoints are given: the state of the lifespan, the caller and the model."""

from typing import Annotated, TypedDict, cast

from fastapi import Depends, Path, Request
from opentelemetry.trace import Tracer
from servicekit.auth import Principal, Verifications, require_scope
from servicekit.state import of_state
from servicekit.tokens import TokenVerifier

from inference_service.admission import BodyBudget
from inference_service.explanations.explaining import Explainer
from inference_service.lifecycle.model_control import ModelControl
from inference_service.lifecycle.registry import ModelRegistry, ServedModel
from inference_service.lifecycle.rollout import choose
from inference_service.pipeline import Pipeline
from inference_service.rates import RateLimiter
from inference_service.settings import InferenceSettings
from inference_service.statistics import StatisticsBook


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


SettingsDep = Annotated[InferenceSettings, Depends(of_state("settings"))]
ModelsDep = Annotated[ModelRegistry, Depends(of_state("models"))]
StatisticsDep = Annotated[StatisticsBook, Depends(of_state("statistics"))]
ControlDep = Annotated[ModelControl, Depends(of_state("control"))]
Caller = Annotated[Principal, require_scope("inference:predict")]
Administrator = Annotated[Principal, require_scope("inference:admin")]


MODEL_NAME_LENGTH = 128
MODEL_NAME_EXAMPLE = "efficientnet-lite0"
VERSION_PATTERN = r"^[1-9][0-9]{0,8}$"
ModelName = Annotated[str, Path(max_length=MODEL_NAME_LENGTH, examples=[MODEL_NAME_EXAMPLE])]


async def get_named_version(
    _caller: Caller,
    models: ModelsDep,
    name: ModelName,
    version: Annotated[str, Path(pattern=VERSION_PATTERN, examples=["1"])],
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
