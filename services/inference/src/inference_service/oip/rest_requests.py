"""Requests for an inference as they come over REST: a JSON object, and the bytes of tensors after it."""

import base64
import binascii
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import from_json

from inference_service.oip import tensors
from inference_service.oip.errors import BadRequest, first_error
from inference_service.oip.requests import MAX_TENSORS, InferRequest, Parameter, requested_output, whole
from inference_service.oip.tensors import Tensor

MAX_JSON_BYTES = 8 * 1024 * 1024
"""Numbers as text cost many times their bytes to read: more of them are to be sent as binary data."""

ParametersIn = Annotated[
    dict[str, Parameter],
    Field(description="By their names: see the extensions."),
]


class _In(BaseModel):
    """A part of a request. Clients that are written for KServe may send null for what they leave out."""

    @model_validator(mode="before")
    @classmethod
    def _without_null(cls, given: Any) -> Any:
        return {key: value for key, value in given.items() if value is not None} if isinstance(given, dict) else given


class InputIn(_In):
    """One input tensor."""

    name: str
    shape: list[Annotated[int, BeforeValidator(whole)]]
    datatype: str
    parameters: ParametersIn = {}
    data: list[Any] | None = None


class OutputIn(_In):
    """One output that is wanted."""

    name: str
    parameters: ParametersIn = {}


class InferIn(_In):
    """The JSON object of a request."""

    id: str = ""
    parameters: ParametersIn = {}
    inputs: list[InputIn] = Field(max_length=MAX_TENSORS)
    outputs: list[OutputIn] = Field([], max_length=MAX_TENSORS)


def read_request(body: bytes, header_length: int | None) -> InferRequest:
    """Return what a body asks for; its first `header_length` bytes are the JSON object, by default all.

    With a `header_length` of 0 the body is one encoded picture, and the outputs come as binary data.

    Raises:
        BadRequest: the body is not such a request.
    """
    if header_length == 0:
        return InferRequest([Tensor("", "BYTES", (1,), [body])], binary=True)
    if header_length is not None and header_length > len(body):
        raise BadRequest(f"Inference-Header-Content-Length is {header_length}, and the body has {len(body)} bytes")
    split = len(body) if header_length is None else header_length
    if split > MAX_JSON_BYTES:
        raise BadRequest(f"the JSON object is over {MAX_JSON_BYTES} bytes: send the tensors as binary data")
    request = _read_json(body[:split])
    by_default = request.parameters.get("binary_data_output", False)
    if not isinstance(by_default, bool):
        raise BadRequest("the parameter 'binary_data_output' must be a boolean")
    return InferRequest(
        inputs=_read_inputs(request.inputs, memoryview(body)[split:]),
        outputs=[requested_output(output.name, output.parameters, binary=by_default) for output in request.outputs],
        id=request.id,
        parameters=request.parameters,
        binary=by_default,
    )


def _read_json(data: bytes) -> InferIn:
    try:
        return InferIn.model_validate(from_json(data, allow_inf_nan=False), strict=True)
    except ValidationError as error:
        raise BadRequest(first_error(error)) from None
    except ValueError as error:
        raise BadRequest(f"failed to parse the request JSON: {error}") from None


def _read_inputs(inputs: Sequence[InputIn], binary: memoryview) -> list[Tensor]:
    """Return the tensors; the data of the binary ones follow each other in `binary`."""
    read = []
    for given in inputs:
        shape = tensors.check_shape(given.name, given.shape)
        size = given.parameters.get("binary_data_size")
        if any(key.startswith("shared_memory_") for key in given.parameters):
            raise BadRequest(f"input '{given.name}': there is no shared memory here")
        if size is None:
            read.append(_from_json(given, shape))
            continue
        length = whole(size)
        if length is None or not 0 <= length <= len(binary):
            raise BadRequest(f"input '{given.name}': binary_data_size is not the size of data that were sent")
        if given.data is not None:
            raise BadRequest(f"input '{given.name}': has binary_data_size, so it must have no data")
        read.append(tensors.from_bytes(given.name, given.datatype, shape, binary[:length]))
        binary = binary[length:]
    if len(binary):
        raise BadRequest(f"there are {len(binary)} bytes after the last input")
    return read


def _from_json(given: InputIn, shape: tuple[int, ...]) -> Tensor:
    if given.data is None:
        raise BadRequest(f"input '{given.name}': has neither data nor binary_data_size")
    if given.datatype != "BYTES":
        return tensors.from_numbers(given.name, given.datatype, shape, given.data)
    return tensors.from_elements(given.name, shape, (_from_text(given.name, text) for text in tensors.flat(given.data)))


def _from_text(name: str, text: Any) -> bytes:
    """Return the bytes of a picture in JSON: it is no text, so it comes in base64."""
    try:
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise BadRequest(f"input '{name}': each element must be text, in base64") from None
