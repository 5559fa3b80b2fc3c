"""Inference over REST."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request, Response
from pydantic import Field, WithJsonSchema
from servicekit.problem import ContentTooLarge, Forbidden, InvalidRequest, Unauthorized
from servicekit.recording import report_stages

from inference_service.dependencies import Caller, TimeoutHeader, state_of
from inference_service.disconnects import while_connected
from inference_service.errors import (
    BodyTooSlow,
    DeadlineExceeded,
    InferenceFailed,
    InvalidItem,
    ModelNotReady,
    Overloaded,
    ShuttingDown,
    TooManyRequests,
    UnknownModel,
)
from inference_service.executors import run_by_size
from inference_service.oip.bodies import read_body
from inference_service.oip.errors import BadRequest, UnknownEncoding, error_responses
from inference_service.oip.inference import infer
from inference_service.oip.rest_answers import JSON_LENGTH_HEADER, InferOut, render
from inference_service.oip.rest_requests import read_request
from inference_service.oip.rest_schema import REQUEST_BODY, RESPONSE_HEADERS
from inference_service.registry import ServedModel
from inference_service.timings import StageTimings
from inference_service.uploads import declared_length


@dataclass(frozen=True, slots=True)
class InferBody:
    """The body of a request, the model that it is for, and the clock of the request."""

    data: bytes
    served: ServedModel
    json_length: int | None
    timeout_seconds: float
    timings: StageTimings


JsonLength = Annotated[
    Annotated[int, Field(ge=0)] | None,
    # To leave the header out is valid, `null` is not.
    WithJsonSchema({"type": "integer", "minimum": 0}),
    Header(
        alias=JSON_LENGTH_HEADER,
        description="How many bytes of the body, as it is when unpacked, are the JSON object; the data of the "
        "tensors follow. By default all. With 0 the body is one encoded picture.",
    ),
]


def read_infer_body(served_dep: Any) -> Callable[..., AsyncIterator[InferBody]]:
    """Return the dependency that reads the body of a request for the model that `served_dep` gives."""

    async def get_body(
        request: Request,
        caller: Caller,
        served: served_dep,
        x_request_timeout: TimeoutHeader = None,
        json_length: JsonLength = None,
    ) -> AsyncIterator[InferBody]:
        """Yield the body; nothing is read for an unknown caller or model, or under overload."""
        state = state_of(request)
        await state["rates"].take(caller.subject)
        settings = state["settings"]
        timeout_seconds = x_request_timeout or settings.request_timeout_seconds
        state["pipeline"].check(served, timeout_seconds=timeout_seconds)
        budget = state["bodies"].hold(min(declared_length(request), settings.max_infer_bytes))
        with StageTimings(state["tracer"]) as timings, budget as held:
            report_stages(request, timings.seconds)
            with timings.measure("receive"):
                data = await read_body(
                    request,
                    max_bytes=settings.max_infer_bytes,
                    timeout_seconds=settings.body_timeout_seconds,
                    count=held.add,
                )
            yield InferBody(data, served, json_length, timeout_seconds, timings)

    return get_body


def infer_router(*, prefix: str, tags: list[Any], served_dep: Any) -> APIRouter:
    """Return the path for inferences of one model, or of one version of it."""
    router = APIRouter(prefix=prefix, tags=tags)

    @router.post(
        "/infer",
        response_model=InferOut,
        responses={
            200: RESPONSE_HEADERS,
            **error_responses(
                BadRequest,
                InvalidRequest,
                InvalidItem,
                Unauthorized,
                Forbidden,
                UnknownModel,
                BodyTooSlow,
                ContentTooLarge,
                TooManyRequests,
                InferenceFailed,
                UnknownEncoding,
                ModelNotReady,
                Overloaded,
                ShuttingDown,
                DeadlineExceeded,
            ),
        },
        openapi_extra={"requestBody": REQUEST_BODY},
    )
    async def infer_pictures(
        request: Request,
        body: Annotated[InferBody, Depends(read_infer_body(served_dep))],
    ) -> Response:
        """Ask a model about one picture or several; the answer holds all of them, in their order, or is an error."""
        state = state_of(request)
        asked = await run_by_size(len(body.data), read_request, body.data, body.json_length)
        answer = await while_connected(
            request.receive,
            infer(
                asked,
                body.served,
                state["pipeline"],
                max_items=state["settings"].max_queue_size,
                timeout_seconds=body.timeout_seconds,
                timings=body.timings,
            ),
        )
        accept_encoding = request.headers.get("accept-encoding", "")
        return await run_by_size(answer.size_bytes, render, answer, accept_encoding=accept_encoding)

    return router
