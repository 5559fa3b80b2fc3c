"""Answers to requests for an inference as they go over REST."""

import gzip
import zlib

from fastapi import Response
from pydantic import BaseModel, Field
from pydantic_core import to_json

from inference_service.oip import tensors
from inference_service.oip.inference import InferAnswer

JSON_LENGTH_HEADER = "Inference-Header-Content-Length"
_COMPRESSION_LEVEL = 1
"""Numbers hardly get smaller by more work."""


class OutputOut(BaseModel):
    """One output tensor."""

    name: str = Field(examples=["probabilities"])
    datatype: str = Field(examples=["FP32"])
    shape: list[int] = Field(examples=[[1, 1000]])
    parameters: dict[str, int] | None = Field(None, description="`binary_data_size`, where the data come after.")
    data: list[float] | list[str] | None = Field(None, description="In one row. Left out where the data come after.")


class InferOut(BaseModel):
    """What a model says."""

    model_name: str
    model_version: str = Field(examples=["1"])
    id: str | None = Field(None, description="That of the request, where it had one.")
    outputs: list[OutputOut]


def render(answer: InferAnswer, *, accept_encoding: str) -> Response:
    """Return the answer: JSON, and after it the data of the outputs that are wanted so.

    Compressed where the caller accepts that. The length of the JSON object is told as it is before that.
    """
    outputs, binary = [], []
    for wanted, tensor in answer.outputs:
        output = OutputOut(name=tensor.name, datatype=tensor.datatype, shape=list(tensor.shape))
        if wanted.binary:
            binary.append(tensors.to_bytes(tensor))
            output.parameters = {"binary_data_size": len(binary[-1])}
        else:
            output.data = tensors.to_list(tensor)
        outputs.append(output)
    document = InferOut(
        model_name=answer.model_name, model_version=answer.model_version, id=answer.id or None, outputs=outputs
    )
    header = to_json(document, exclude_none=True)
    headers = {"X-Cache": answer.cache, "Vary": "Accept-Encoding"}
    if binary:
        headers[JSON_LENGTH_HEADER] = str(len(header))
    body = b"".join([header, *binary])
    if encoding := _chosen_encoding(accept_encoding):
        headers["Content-Encoding"] = encoding
        compress = gzip.compress if encoding == "gzip" else zlib.compress
        body = compress(body, _COMPRESSION_LEVEL)
    return Response(body, headers=headers, media_type="application/octet-stream" if binary else "application/json")


def _chosen_encoding(accept_encoding: str) -> str | None:
    """Return the first of gzip and deflate that is named (RFC 9110, section 12.5.3, without weights but 0)."""
    names = [entry.partition(";") for entry in accept_encoding.lower().split(",")]
    accepted = {name.strip() for name, _, weight in names if weight.replace(" ", "") not in ("q=0", "q=0.0")}
    return next((encoding for encoding in ("gzip", "deflate") if encoding in accepted), None)
