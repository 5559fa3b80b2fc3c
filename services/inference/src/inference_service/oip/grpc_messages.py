"""The messages of gRPC to and from what they stand for."""

from collections.abc import Mapping
from typing import TypeVar

import numpy as np
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message
from pydantic import BaseModel

from inference_service.oip import protocol_pb2 as pb
from inference_service.oip import tensors
from inference_service.oip.errors import BadRequest
from inference_service.oip.inference import InferAnswer
from inference_service.oip.requests import MAX_TENSORS, InferRequest, Parameter, requested_output
from inference_service.oip.tensors import Tensor

M = TypeVar("M", bound=Message)

_CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""The field of `InferTensorContents` for each datatype; FP16 has none and is sent raw."""


def read_request(message: pb.ModelInferRequest) -> InferRequest:
    """Return what a message asks for.

    Raises:
        BadRequest: it is not such a request.
    """
    if max(len(message.inputs), len(message.outputs)) > MAX_TENSORS:
        raise BadRequest(f"expected up to {MAX_TENSORS} inputs and outputs")
    return InferRequest(
        inputs=_read_inputs(message),
        outputs=[requested_output(output.name, _parameters(output.parameters)) for output in message.outputs],
        id=message.id,
        parameters=_parameters(message.parameters),
    )


def _read_inputs(message: pb.ModelInferRequest) -> list[Tensor]:
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        raise BadRequest(f"expected raw_input_contents for {len(message.inputs)} inputs, got {len(raw)}")
    read = []
    for index, given in enumerate(message.inputs):
        shape = tensors.check_shape(given.name, given.shape)
        if any(key.startswith("shared_memory_") for key in given.parameters):
            raise BadRequest(f"input '{given.name}': there is no shared memory here")
        if not raw:
            read.append(_from_contents(given, shape))
        elif given.HasField("contents"):
            raise BadRequest(f"input '{given.name}': has raw_input_contents, so it must have no contents")
        else:
            read.append(tensors.from_bytes(given.name, given.datatype, shape, raw[index]))
    return read


def _from_contents(given: pb.ModelInferRequest.InferInputTensor, shape: tuple[int, ...]) -> Tensor:
    field = _CONTENTS.get(given.datatype)
    if field is None:
        raise BadRequest(f"input '{given.name}': the datatype {given.datatype!r} has no contents: send it raw")
    elements = list(getattr(given.contents, field))
    if given.datatype == "BYTES":
        return tensors.from_elements(given.name, shape, elements)
    return tensors.from_numbers(given.name, given.datatype, shape, elements)


def _parameters(given: Mapping[str, pb.InferParameter]) -> dict[str, Parameter]:
    read: dict[str, Parameter] = {}
    for name, parameter in given.items():
        choice = parameter.WhichOneof("parameter_choice")
        if choice is None:
            raise BadRequest(f"the parameter '{name}' has no value")
        read[name] = getattr(parameter, choice)
    return read


def write_answer(answer: InferAnswer, *, raw: bool) -> pb.ModelInferResponse:
    """Return the message of an answer, its data `raw` or in `contents`."""
    message = pb.ModelInferResponse(model_name=answer.model_name, model_version=answer.model_version, id=answer.id)
    for _, tensor in answer.outputs:
        output = message.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        if raw:
            message.raw_output_contents.append(tensors.to_bytes(tensor))
        elif isinstance(tensor.values, list):
            output.contents.bytes_contents.extend(tensor.values)
        else:
            output.contents.fp32_contents.extend(np.ravel(tensor.values).tolist())
    return message


def filled(message: M, document: BaseModel) -> M:
    """Return `message` with the fields of a document of REST: they have the same names."""
    return ParseDict(document.model_dump(), message)
