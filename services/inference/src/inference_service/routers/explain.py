"""Why a picture is taken for what it is, over HTTP."""

from typing import Annotated

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field, WithJsonSchema
from servicekit.direct import DirectRoute
from servicekit.problem import problem_responses

from inference_service.batching import Priority
from inference_service.dependencies import state_of
from inference_service.disconnects import while_connected
from inference_service.errors import UnknownClass
from inference_service.receiving import UPLOAD_PROBLEMS, UploadParameters, admitted, receive_upload
from inference_service.schemas import ExplainResponse, ModelRef
from inference_service.uploads import REQUEST_BODY

router = APIRouter(tags=["predictions"], route_class=DirectRoute)

_PNG = {"image/png": {"schema": {"type": "string", "format": "binary"}}}


class ExplainParameters(UploadParameters):
    """What is said of a picture that is to be explained."""

    target: Annotated[
        Annotated[int, Field(ge=0, le=1_000_000)] | None,
        WithJsonSchema({"type": "integer", "minimum": 0, "maximum": 1_000_000}),
        Field(alias="class", description="Index of the class to explain. By default the likeliest.", examples=[282]),
    ] = None


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
        **problem_responses(*UPLOAD_PROBLEMS, UnknownClass),
    },
    openapi_extra=ExplainParameters.openapi(REQUEST_BODY),
)
async def explain(request: Request) -> Response:
    """Show which part of a picture speaks for a class. Predictions go first."""
    state = state_of(request)
    max_bytes = state["settings"].max_image_bytes
    async with admitted(request, ExplainParameters, max_bytes=max_bytes, priority=Priority.LOW) as let_in:
        data = await receive_upload(request, let_in)
        explained = await while_connected(
            request.receive,
            state["explainer"].explain(
                data,
                let_in.served,
                target=let_in.parameters.target,
                draw=not _prefers_json(request),
                timeout_seconds=let_in.parameters.timeout_seconds,
                timings=let_in.timings,
            ),
        )
    headers = {"Vary": "Accept"}
    if explained.png is not None:
        return Response(explained.png, media_type="image/png", headers=headers)
    source = let_in.served.source
    body = ExplainResponse(
        explained_class=explained.saliency.index,
        label=explained.label,
        score=explained.saliency.score,
        method=explained.method,
        saliency=explained.saliency.map.tolist(),
        model=ModelRef(name=source.name, version=source.version),
        timings=let_in.timings.seconds(),
    )
    return JSONResponse(body.model_dump(by_alias=True), headers=headers)


def _prefers_json(request: Request) -> bool:
    accepted = request.headers.get("accept", "")
    return "application/json" in accepted and "image/png" not in accepted
