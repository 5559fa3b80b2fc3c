"""The model repository over REST: which models there are."""

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ValidationError
from servicekit.problem import ContentTooLarge, Forbidden, Unauthorized

from inference_service.dependencies import Caller, ModelsDep, SettingsDep
from inference_service.errors import BodyTooSlow
from inference_service.oip.bodies import read_body
from inference_service.oip.errors import BadRequest, UnknownEncoding, error_responses
from inference_service.oip.metadata import index_entry
from inference_service.oip.schemas import IndexEntry

MAX_BODY_BYTES = 64 * 1024


class IndexIn(BaseModel):
    """Which models are to be listed."""

    ready: bool = False


_INDEX_BODY: dict[str, Any] = {
    "description": "It may be left out.",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "properties": {"ready": {"type": "boolean", "description": "Only those that answer."}},
            }
        }
    },
}


def repository_router(*, prefix: str, tags: list[Any]) -> APIRouter:
    """Return the paths of the repository."""
    router = APIRouter(prefix=prefix, tags=tags)

    @router.post(
        "/index",
        responses=error_responses(Unauthorized, Forbidden, BadRequest, BodyTooSlow, ContentTooLarge, UnknownEncoding),
        openapi_extra={"requestBody": _INDEX_BODY},
    )
    async def list_repository(
        _caller: Caller, request: Request, models: ModelsDep, settings: SettingsDep
    ) -> list[IndexEntry]:
        """List every version of every model, those that could not be loaded among them."""
        body = await read_body(request, max_bytes=MAX_BODY_BYTES, timeout_seconds=settings.body_timeout_seconds)
        only_ready = _read_index(body).ready
        return [index_entry(served) for served in models if served.model is not None or not only_ready]

    return router


def _read_index(body: bytes) -> IndexIn:
    if not body:
        return IndexIn()
    try:
        return IndexIn.model_validate_json(body, strict=True)
    except ValidationError as error:
        [found, *_] = error.errors(include_url=False, include_input=False, include_context=False)
        raise BadRequest(f"{'.'.join(map(str, found['loc'])) or 'body'}: {found['msg']}") from None
