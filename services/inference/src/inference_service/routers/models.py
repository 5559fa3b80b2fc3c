"""Which models there are."""

from fastapi import APIRouter
from servicekit.problem import Forbidden, InvalidRequest, Unauthorized, problem_responses

from inference_service.dependencies import Caller, ModelsDep, NamedVersionDep, NamedVersionsDep
from inference_service.errors import UnknownModel
from inference_service.schemas import ModelDetails, ModelSummary, ModelVersions, model_details, model_summary

router = APIRouter(prefix="/models", tags=["models"])


@router.get("", responses=problem_responses(Unauthorized, Forbidden))
async def list_models(_caller: Caller, models: ModelsDep) -> list[ModelSummary]:
    """List the models and their versions. The first answers where a request names none."""
    return [model_summary(served) for served in models]


@router.get("/{name}", responses=problem_responses(Unauthorized, Forbidden, UnknownModel, InvalidRequest))
async def get_model(versions: NamedVersionsDep, models: ModelsDep) -> ModelVersions:
    """Describe the version of a model that answers where a request names none, and list all, the newest first."""
    serving = models.get(versions[0].source.name)
    return ModelVersions(
        **model_details(serving).model_dump(), versions=[model_summary(version) for version in versions]
    )


@router.get(
    "/{name}/versions/{version}", responses=problem_responses(Unauthorized, Forbidden, UnknownModel, InvalidRequest)
)
async def get_version(served: NamedVersionDep) -> ModelDetails:
    """Describe one version of a model, with the names of its classes."""
    return model_details(served)
