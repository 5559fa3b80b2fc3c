"""What comes before each picture: who asks, which model, and whether there is time and room for it."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Request
from pydantic import Field, WithJsonSchema
from servicekit.auth import CallerWith
from servicekit.direct import Parameters
from servicekit.problem import (
    BodyTooSlow,
    ContentTooLarge,
    Forbidden,
    InvalidRequest,
    Unauthorized,
    UnsupportedMediaType,
)
from servicekit.recording import report_stages

from inference_service.batching import Priority
from inference_service.bodies import declared_length
from inference_service.dependencies import MODEL_NAME_EXAMPLE, MODEL_NAME_LENGTH, VERSION_PATTERN, state_of
from inference_service.errors import (
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
from inference_service.lifecycle.registry import ServedModel
from inference_service.lifecycle.rollout import choose
from inference_service.timings import StageTimings
from inference_service.uploads import read_upload

MAX_TIMEOUT_SECONDS = 300

PICTURE_PROBLEMS = (
    Unauthorized,
    Forbidden,
    UnknownModel,
    BodyTooSlow,
    ContentTooLarge,
    TooManyRequests,
    InvalidRequest,
    InferenceFailed,
    ModelNotReady,
    Overloaded,
    ShuttingDown,
    DeadlineExceeded,
)
"""What may end any request with pictures, for OpenAPI."""

UPLOAD_PROBLEMS = (*PICTURE_PROBLEMS, UnsupportedMediaType, NotAnImage, InvalidUpload, InvalidImage)
"""And what may end one whose picture is sent by itself."""

predicting = CallerWith("inference:predict")


class PictureParameters(Parameters):
    """What is said of every request with pictures."""

    timeout_seconds: Annotated[
        Annotated[float, Field(gt=0, le=MAX_TIMEOUT_SECONDS, allow_inf_nan=False)] | None,
        # To leave the header out is valid, `null` is not.
        WithJsonSchema({"type": "number", "exclusiveMinimum": 0, "maximum": MAX_TIMEOUT_SECONDS}),
        Field(
            alias="X-Request-Timeout",
            description="Seconds from the whole body to the answer that the caller waits for.",
            examples=[2.5],
        ),
        "header",
    ] = None

    def asked(self) -> tuple[str | None, str | None]:
        """Return the model and the version that are asked, where they are named."""
        raise NotImplementedError

    @classmethod
    def openapi(cls, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return what an operation with these and such a body says in OpenAPI; `admitted` reads all but the body."""
        return {"parameters": cls.documented(), "requestBody": body, "security": predicting.security}


P = TypeVar("P", bound=PictureParameters)


class UploadParameters(PictureParameters):
    """What is said of a picture that is sent by itself."""

    model: Annotated[
        str | None,
        Field(
            max_length=MODEL_NAME_LENGTH,
            description="Which model to ask. By default the first.",
            examples=[MODEL_NAME_EXAMPLE],
        ),
    ] = None
    version: Annotated[
        str | None,
        Field(
            pattern=VERSION_PATTERN,
            description="Which version of it. By default the newest stable one that is ready, or the canary.",
            examples=["1"],
        ),
    ] = None

    def asked(self) -> tuple[str | None, str | None]:
        """Return those of the query."""
        return self.model, self.version


@dataclass(frozen=True, slots=True)
class Admitted(Generic[P]):
    """A request that may send its body: what it says beside it, the model that it is for, and the clock that runs."""

    parameters: P
    served: ServedModel
    timings: StageTimings
    count: Callable[[int], None]
    """To be told of each chunk of the body."""


@asynccontextmanager
async def admitted(
    request: Request, parameters: type[P], *, max_bytes: int, priority: Priority = Priority.INTERACTIVE
) -> AsyncIterator[Admitted[P]]:
    """Let the request in until the end of `with`: before anything of its body is read.

    Raises:
        Unauthorized: who the caller is was not proven.
        Forbidden: the caller may not ask for predictions.
        RequestValidationError: a parameter is not valid.
        TooManyRequests: it is one too many of this caller.
        UnknownModel: there is none of that name and version.
        ModelNotReady: the model is not loaded.
        Overloaded: the answer would not come in time, or there is no room for a body of that length.
    """
    caller = await predicting(request)
    given = parameters.of(request)
    state = state_of(request)
    await state["rates"].take(caller.subject)
    served = choose(state["models"], caller.subject, *given.asked())
    state["pipeline"].check(served, timeout_seconds=given.timeout_seconds, priority=priority)
    held = state["bodies"].hold(min(declared_length(request), max_bytes))
    with StageTimings(state["tracer"]) as timings, held as count:
        report_stages(request, timings.seconds)
        yield Admitted(given, served, timings, count)


async def receive_upload(request: Request, let_in: Admitted[P]) -> bytes:
    """Return the picture in the body of a request that is let in; raises as `read_upload` does."""
    settings = state_of(request)["settings"]
    with let_in.timings.measure("receive"):
        return await read_upload(request, max_bytes=settings.max_image_bytes, count=let_in.count)
