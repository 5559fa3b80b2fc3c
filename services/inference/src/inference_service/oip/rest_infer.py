"""Inference over REST."""

from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import Field, WithJsonSchema
from servicekit.direct import DirectRoute

from inference_service.dependencies import MODEL_NAME_EXAMPLE, MODEL_NAME_LENGTH, VERSION_PATTERN, state_of
from inference_service.disconnects import while_connected
from inference_service.errors import InvalidItem
from inference_service.executors import run_by_size
from inference_service.oip.bodies import read_body
from inference_service.oip.errors import BadRequest, UnknownEncoding, error_responses
from inference_service.oip.inference import infer
from inference_service.oip.rest_answers import JSON_LENGTH_HEADER, InferOut, render
from inference_service.oip.rest_requests import read_request
from inference_service.oip.rest_schema import REQUEST_BODY, RESPONSE_HEADERS
from inference_service.receiving import PICTURE_PROBLEMS, PictureParameters, admitted


class InferParameters(PictureParameters):
    """What is said of an inference beside its body."""

    name: Annotated[str, Field(max_length=MODEL_NAME_LENGTH, examples=[MODEL_NAME_EXAMPLE]), "path"]
    json_length: Annotated[
        Annotated[int, Field(ge=0)] | None,
        # To leave the header out is valid, `null` is not.
        WithJsonSchema({"type": "integer", "minimum": 0}),
        Field(
            alias=JSON_LENGTH_HEADER,
            description="How many bytes of the body, as it is when unpacked, are the JSON object; the data of the "
            "tensors follow. By default all. With 0 the body is one encoded picture.",
        ),
        "header",
    ] = None

    def asked(self) -> tuple[str | None, str | None]:
        """Return those of the path."""
        return self.name, None


class VersionInferParameters(InferParameters):
    """The same, where the path names a version."""

    version: Annotated[str, Field(pattern=VERSION_PATTERN, examples=["1"]), "path"]

    def asked(self) -> tuple[str | None, str | None]:
        """Return those of the path."""
        return self.name, self.version


def infer_router(*, prefix: str, tags: list[Any], parameters: type[InferParameters]) -> APIRouter:
    """Return the path for inferences of one model, or of one version of it."""
    router = APIRouter(prefix=prefix, tags=tags, route_class=DirectRoute)

    @router.post(
        "/infer",
        response_model=InferOut,
        responses={
            200: RESPONSE_HEADERS,
            **error_responses(BadRequest, *PICTURE_PROBLEMS, InvalidItem, UnknownEncoding),
        },
        openapi_extra=parameters.openapi(REQUEST_BODY),
    )
    async def infer_pictures(request: Request) -> Response:
        """Ask a model about one picture or several; the answer holds all of them, in their order, or is an error."""
        state = state_of(request)
        settings = state["settings"]
        async with admitted(request, parameters, max_bytes=settings.max_infer_bytes) as let_in:
            with let_in.timings.measure("receive"):
                data = await read_body(request, max_bytes=settings.max_infer_bytes, count=let_in.count)
            inference = await run_by_size(len(data), read_request, data, let_in.parameters.json_length)
            answer = await while_connected(
                request.receive,
                infer(
                    inference,
                    let_in.served,
                    state["pipeline"],
                    max_items=settings.max_queue_size,
                    timeout_seconds=let_in.parameters.timeout_seconds,
                    timings=let_in.timings,
                ),
            )
            accept_encoding = request.headers.get("accept-encoding", "")
            return await run_by_size(answer.size_bytes, render, answer, accept_encoding=accept_encoding)

    return router
