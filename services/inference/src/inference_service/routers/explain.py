"""Why a picture is taken for what it is, over HTTP."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field, WithJsonSchema
from servicekit.problem import (
    ContentTooLarge,
    Forbidden,
    InvalidRequest,
    Unauthorized,
    UnsupportedMediaType,
    problem_responses,
)

from inference_service.dependencies import LowPriorityUploadDep, state_of
from inference_service.disconnects import while_connected
from inference_service.errors import (
    BodyTooSlow,
    DeadlineExceeded,
    InferenceFailed,
    InvalidImage,
    InvalidUpload,
    ModelNotReady,
    NotAnImage,
    Overloaded,
    ShuttingDown,
    TooManyRequests,
    UnknownClass,
    UnknownModel,
)
from inference_service.schemas import ExplainResponse, ModelRef
from inference_service.uploads import REQUEST_BODY

router = APIRouter(tags=["predictions"])

_PNG = {"image/png": {"schema": {"type": "string", "format": "binary"}}}


@router.post(
    "/explain",
    response_class=JSONResponse,
    response_model=None,
    responses={
        200: {
            "model": ExplainResponse,
            "description": "The picture with the heat map over it; or, by `Accept: application/json`, the numbers.",
            "content": _PNG,
        },
        **problem_responses(
            Unauthorized,
            Forbidden,
            UnknownModel,
            BodyTooSlow,
            ContentTooLarge,
            TooManyRequests,
            UnsupportedMediaType,
            NotAnImage,
            InvalidRequest,
            InvalidUpload,
            InvalidImage,
            UnknownClass,
            InferenceFailed,
            ModelNotReady,
            Overloaded,
            ShuttingDown,
            DeadlineExceeded,
        ),
    },
    openapi_extra={"requestBody": REQUEST_BODY},
)
async def explain(
    request: Request,
    upload: LowPriorityUploadDep,
    target: Annotated[
        Annotated[int, Field(ge=0, le=1_000_000)] | None,
        WithJsonSchema({"type": "integer", "minimum": 0, "maximum": 1_000_000}),
        Query(alias="class", description="Index of the class to explain. By default the likeliest.", examples=[282]),
    ] = None,
) -> Response:
    """Show which part of a picture speaks for a class. Predictions go first."""
    wants_png = not _prefers_json(request)
    explained = await while_connected(
        request.receive,
        state_of(request)["explainer"].explain(
            upload.data,
            upload.served,
            target=target,
            draw=wants_png,
            timeout_seconds=upload.timeout_seconds,
            timings=upload.timings,
        ),
    )
    headers = {"Vary": "Accept"}
    if explained.png is not None:
        return Response(explained.png, media_type="image/png", headers=headers)
    source = upload.served.source
    body = ExplainResponse(
        explained_class=explained.saliency.index,
        label=explained.label,
        score=explained.saliency.score,
        method=explained.method,
        saliency=explained.saliency.map.tolist(),
        model=ModelRef(name=source.name, version=source.version),
        timings=upload.timings.seconds(),
    )
    return JSONResponse(body.model_dump(by_alias=True), headers=headers)


def _prefers_json(request: Request) -> bool:
    accepted = request.headers.get("accept", "")
    return "application/json" in accepted and "image/png" not in accepted
