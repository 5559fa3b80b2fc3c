"""What the tests of the inference protocol send."""

import base64
import json
import struct
from typing import Any

import httpx
from PIL import Image

from tests.unit.inference.pictures import encoded

RED, GREEN, BLUE = (
    encoded(Image.new("RGB", (20, 20), colour), "PNG") for colour in ((250, 10, 5), (10, 250, 5), (5, 10, 250))
)
INFER = "/v2/models/tiny/infer"


def picture_input(*files: bytes, shape: list[int] | None = None) -> dict[str, Any]:
    """Return an input tensor of files, as JSON."""
    data = [base64.b64encode(file).decode() for file in files]
    return {"name": "image", "datatype": "BYTES", "shape": shape or [len(files)], "data": data}


def infer_body(*files: bytes, **fields: Any) -> dict[str, Any]:
    """Return a request about files, as JSON."""
    return {"inputs": [picture_input(*files)], **fields}


def best(output: str = "probabilities", classes: int = 1) -> dict[str, Any]:
    """Return the output that names the best classes."""
    return {"name": output, "parameters": {"classification": classes}}


def binary_elements(*files: bytes) -> bytes:
    """Return the data of a BYTES tensor."""
    return b"".join(struct.pack("<I", len(file)) + file for file in files)


def binary_body(request: dict[str, Any], data: bytes) -> tuple[bytes, dict[str, str]]:
    """Return a body with the data after the JSON object, and the header that tells where."""
    header = json.dumps(request).encode()
    return header + data, {"Inference-Header-Content-Length": str(len(header))}


def split_answer(response: httpx.Response) -> tuple[dict[str, Any], bytes]:
    """Return the JSON object of an answer and the data after it."""
    assert response.headers["content-type"] == "application/octet-stream"
    length = int(response.headers["inference-header-content-length"])
    return json.loads(response.content[:length]), response.content[length:]


def assert_error(response: httpx.Response, status: int, *words: str) -> None:
    """Check an error: its status, and that its only field holds `words`."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    document = response.json()
    assert list(document) == ["error"]
    for word in words:
        assert word in document["error"], document
