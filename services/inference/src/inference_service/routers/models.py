"""Which models there are."""

from fastapi import APIRouter
from servicekit.problem import Forbidden, InvalidRequest, Unauthorized, problem_responses

from inference_service.dependencies import Caller, ModelsDep, NamedModelDep
from inference_service.errors import UnknownModel
from inference_service.schemas import ModelDetails, ModelSummary, model_details, model_summary

router = APIRouter(prefix="/models", tags=["models"])


@router.get("", responses=problem_responses(Unauthorized, Forbidden))
async def list_models(_caller: Caller, models: ModelsDep) -> list[ModelSummary]:
    """List the models. The first answers where a request names none."""
    return [model_summary(served) for served in models]


@router.get("/{name}", responses=problem_responses(Unauthorized, Forbidden, UnknownModel, InvalidRequest))
async def get_model(served: NamedModelDep) -> ModelDetails:
    """Describe one model, with the names of its classes."""
    return model_details(served)
