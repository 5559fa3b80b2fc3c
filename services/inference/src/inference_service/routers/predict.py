"""Image classification over HTTP."""

from typing import Annotated, get_args

from fastapi import APIRouter, Request, Response
from pydantic import Field
from servicekit.direct import DirectRoute
from servicekit.problem import problem_responses

from inference_service.dependencies import state_of
from inference_service.disconnects import while_connected
from inference_service.metrics import CacheOutcome
from inference_service.receiving import UPLOAD_PROBLEMS, UploadParameters, admitted, receive_upload
from inference_service.schemas import ModelRef, PredictionOut, PredictResponse
from inference_service.uploads import REQUEST_BODY

router = APIRouter(tags=["predictions"], route_class=DirectRoute)

_HEADERS = {
    "Server-Timing": {
        "description": "What `timings` says and the whole until the answer, in milliseconds.",
        "schema": {"type": "string"},
        "example": "receive;dur=0.412, decode;dur=6.030, inference;dur=28.104",
    },
    "X-Cache": {
        "description": "Whether the answer was there (`hit`), was computed (`miss`), came with that of an equal "
        "request (`shared`), or nothing is kept (`off`).",
        "schema": {"type": "string", "enum": list(get_args(CacheOutcome))},
        "example": "miss",
    },
}


class PredictParameters(UploadParameters):
    """What is said of a picture that is to be classified."""

    top_k: Annotated[int, Field(ge=1, le=20, description="How many classes to name.")] = 5


@router.post(
    "/predict",
    response_model=PredictResponse,
    responses={
        200: {"headers": _HEADERS},
        **problem_responses(*UPLOAD_PROBLEMS),
    },
    openapi_extra=PredictParameters.openapi(REQUEST_BODY),
)
async def predict(request: Request) -> Response:
    """Classify one picture: upright, its middle square, over all classes of the model."""
    state = state_of(request)
    async with admitted(request, PredictParameters, max_bytes=state["settings"].max_image_bytes) as let_in:
        data = await receive_upload(request, let_in)
        classified = await while_connected(
            request.receive,
            state["pipeline"].classify(
                data,
                let_in.served,
                top_k=let_in.parameters.top_k,
                timeout_seconds=let_in.parameters.timeout_seconds,
                timings=let_in.timings,
            ),
        )
    predictions, source = classified.predictions, let_in.served.source
    best = predictions[0]
    answer = PredictResponse(
        predicted_class=best.index,
        label=best.label,
        score=best.score,
        predictions=[PredictionOut(index=p.index, label=p.label, score=p.score) for p in predictions],
        model=ModelRef(name=source.name, version=source.version),
        timings=let_in.timings.seconds(),
    )
    return Response(
        answer.model_dump_json(by_alias=True), media_type="application/json", headers={"X-Cache": classified.cache}
    )
