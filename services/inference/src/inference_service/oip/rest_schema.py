"""What an inference over REST takes and gives, for OpenAPI: a declared body would be read for unknown callers."""

from typing import Any, get_args

from inference_service.metrics import CacheOutcome
from inference_service.oip.inputs import INPUT
from inference_service.oip.outputs import OUTPUTS
from inference_service.oip.requests import MAX_TIMEOUT_MICROSECONDS
from inference_service.oip.rest_answers import JSON_LENGTH_HEADER

_SCALAR = {"type": ["boolean", "integer", "number", "string"]}


def _object(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required, "properties": properties}


def _parameters(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": _SCALAR}


_INPUT = _object(
    ["name", "shape", "datatype"],
    name={"const": INPUT},
    shape={
        "type": "array",
        "items": {"type": "integer", "minimum": 0},
        "description": "BYTES [N] or [N,1]: encoded pictures; UINT8 [N,H,W,3]: pixels; "
        "FP32 [N,3,H,W]: what the network takes.",
    },
    datatype={"enum": ["BYTES", "UINT8", "FP32"]},
    parameters=_parameters(
        binary_data_size={"type": "integer", "minimum": 0, "description": "The bytes of it after the JSON object."}
    ),
    data={"type": "array", "description": "In one row or nested as the shape is; pictures in base64."},
)
_OUTPUT = _object(
    ["name"],
    name={"enum": list(OUTPUTS)},
    parameters=_parameters(
        classification={
            "type": "integer",
            "minimum": 0,
            "description": "Name so many of the best classes, as BYTES `value:index:label`, in place of the numbers.",
        },
        binary_data={"type": "boolean", "description": "Send the data after the JSON object."},
    ),
)
_REQUEST = _object(
    ["inputs"],
    id={"type": "string", "description": "It comes back in the answer."},
    parameters=_parameters(
        timeout={
            "type": "integer",
            "minimum": 0,
            "maximum": MAX_TIMEOUT_MICROSECONDS,
            "description": "Microseconds to the answer that the caller waits for; 0 is for the default.",
        },
        priority={"type": "integer", "minimum": 0, "description": "1 is the first to be served, and the default."},
        binary_data_output={"type": "boolean", "description": "Send the data of all outputs after the JSON object."},
    ),
    inputs={"type": "array", "items": _INPUT, "minItems": 1, "maxItems": 1},
    outputs={"type": "array", "items": _OUTPUT, "description": "By default all."},
)
REQUEST_BODY: dict[str, Any] = {
    "required": True,
    "description": f"A JSON object, which may be followed by the data of the tensors ({JSON_LENGTH_HEADER}). "
    "It may be compressed: `Content-Encoding: gzip` or `deflate`.",
    "content": {
        "application/json": {
            "schema": _REQUEST,
            "example": {
                "inputs": [{"name": INPUT, "shape": [1, 1], "datatype": "BYTES", "data": ["<base64 of a picture>"]}],
                "outputs": [{"name": "probabilities", "parameters": {"classification": 5}}],
            },
        },
        "application/octet-stream": {"schema": {"type": "string", "format": "binary", "minLength": 1}},
    },
}
RESPONSE_HEADERS: dict[str, Any] = {
    "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    "headers": {
        JSON_LENGTH_HEADER: {
            "description": "How many bytes are the JSON object, where data follow.",
            "schema": {"type": "integer"},
        },
        "X-Cache": {
            "description": "Where the numbers came from; `hit` where those of all pictures did.",
            "schema": {"type": "string", "enum": list(get_args(CacheOutcome))},
        },
        "Server-Timing": {"description": "What each stage took, in milliseconds.", "schema": {"type": "string"}},
    },
}
