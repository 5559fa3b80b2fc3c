"""Image classification over HTTP."""

from typing import Annotated, get_args

from fastapi import APIRouter, Query, Request, Response
from servicekit.problem import (
    ContentTooLarge,
    Forbidden,
    InvalidRequest,
    Unauthorized,
    UnsupportedMediaType,
    problem_responses,
)

from inference_service.dependencies import UploadDep, state_of
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
    UnknownModel,
)
from inference_service.metrics import CacheOutcome
from inference_service.schemas import ModelRef, PredictionOut, PredictResponse
from inference_service.uploads import REQUEST_BODY

router = APIRouter(tags=["predictions"])

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


@router.post(
    "/predict",
    responses={
        200: {"headers": _HEADERS},
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
            InferenceFailed,
            ModelNotReady,
            Overloaded,
            ShuttingDown,
            DeadlineExceeded,
        ),
    },
    openapi_extra={"requestBody": REQUEST_BODY},
)
async def predict(
    request: Request,
    response: Response,
    upload: UploadDep,
    top_k: Annotated[int, Query(ge=1, le=20, description="How many classes to name.")] = 5,
) -> PredictResponse:
    """Classify one picture: upright, its middle square, over all classes of the model."""
    classified = await while_connected(
        request.receive,
        state_of(request)["pipeline"].classify(
            upload.data, upload.served, top_k=top_k, timeout_seconds=upload.timeout_seconds, timings=upload.timings
        ),
    )
    predictions, source = classified.predictions, upload.served.source
    best = predictions[0]
    response.headers["X-Cache"] = classified.cache
    return PredictResponse(
        predicted_class=best.index,
        label=best.label,
        score=best.score,
        predictions=[PredictionOut(index=p.index, label=p.label, score=p.score) for p in predictions],
        model=ModelRef(name=source.name, version=source.version),
        timings=upload.timings.seconds(),
    )
