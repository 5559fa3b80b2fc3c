"""The model repository over REST: which models there are, and how they come and go."""

from collections.abc import Iterable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ValidationError
from servicekit.problem import BodyTooSlow, ContentTooLarge, Forbidden, Unauthorized

from inference_service.dependencies import Administrator, Caller, ControlDep, ModelName, ModelsDep
from inference_service.errors import ModelControlOff, ModelNotLoaded, UnknownModel
from inference_service.oip.bodies import read_body
from inference_service.oip.errors import BadRequest, UnknownEncoding, error_responses, first_error
from inference_service.oip.metadata import repository_index
from inference_service.oip.schemas import IndexEntry

MAX_BODY_BYTES = 64 * 1024

T = TypeVar("T", bound=BaseModel)


class IndexIn(BaseModel):
    """Which models are to be listed."""

    ready: bool = False


class ControlIn(BaseModel):
    """How a model is to be loaded or unloaded."""

    parameters: dict[str, Any] = {}


def _optional_body(**properties: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties}
    return {"requestBody": {"description": "It may be left out.", "content": {"application/json": {"schema": schema}}}}


_INDEX_BODY = _optional_body(ready={"type": "boolean", "description": "Only those that answer."})
_CONTROL_BODY = _optional_body(
    parameters={
        "type": "object",
        "properties": {"unload_dependents": {"type": "boolean", "description": "No model has any."}},
        "additionalProperties": False,
    }
)


def repository_router(*, prefix: str, tags: list[Any]) -> APIRouter:
    """Return the paths of the repository."""
    router = APIRouter(prefix=prefix, tags=tags)

    @router.post(
        "/index",
        responses=error_responses(Unauthorized, Forbidden, BadRequest, BodyTooSlow, ContentTooLarge, UnknownEncoding),
        openapi_extra=_INDEX_BODY,
    )
    async def list_repository(_caller: Caller, request: Request, models: ModelsDep) -> list[IndexEntry]:
        """List every version of every model, those that could not be loaded among them."""
        body = await read_body(request, max_bytes=MAX_BODY_BYTES)
        return repository_index(models, only_ready=_read(IndexIn, body).ready)

    async def get_parameters(_administrator: Administrator, request: Request) -> Iterable[str]:
        """Return the names of the parameters in the body; nothing is read for who is no administrator."""
        body = await read_body(request, max_bytes=MAX_BODY_BYTES)
        return _read(ControlIn, body).parameters

    ParametersDep = Annotated[Iterable[str], Depends(get_parameters)]  # noqa: N806
    control_responses = error_responses(
        Unauthorized,
        Forbidden,
        ModelControlOff,
        UnknownModel,
        ModelNotLoaded,
        BadRequest,
        BodyTooSlow,
        ContentTooLarge,
        UnknownEncoding,
    )

    @router.post("/models/{name}/load", responses=control_responses, openapi_extra=_CONTROL_BODY)
    async def load_model(name: ModelName, parameters: ParametersDep, control: ControlDep) -> Response:
        """Load a model, or load it again: checked as at the start, it then takes the place of the one before."""
        await control.load(name, parameters)
        return Response()

    @router.post("/models/{name}/unload", responses=control_responses, openapi_extra=_CONTROL_BODY)
    async def unload_model(name: ModelName, parameters: ParametersDep, control: ControlDep) -> Response:
        """Let go of every version of a model; what has begun is answered."""
        await control.unload(name, parameters)
        return Response()

    return router


def _read(kind: type[T], body: bytes) -> T:
    if not body:
        return kind()
    try:
        return kind.model_validate_json(body, strict=True)
    except ValidationError as error:
        raise BadRequest(first_error(error)) from None
