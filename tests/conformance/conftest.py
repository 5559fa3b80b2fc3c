"""Which server is held to the protocol: ours by default, or any other by its address."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.inference_process import InferenceServer, serve_inference

NUMPY = {
    "BOOL": "?",
    "UINT8": "<u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "<i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("oip", "the server of the inference protocol that is tested")
    group.addoption("--oip-url", help="its address, as in http://localhost:8000; by default one is started")
    group.addoption("--oip-token", help="a bearer token for it")
    group.addoption("--oip-model", help="the model that is asked; by default the first of its index")
    group.addoption("--oip-grpc", help="host and port of its gRPC side")
    group.addoption("--oip-picture", help="a file for inputs of the datatype BYTES")


@pytest.fixture(scope="session")
def server(pytestconfig: pytest.Config) -> Iterator[InferenceServer]:
    """The server under test."""
    url = pytestconfig.getoption("--oip-url", default=None)
    if url is None:
        with serve_inference() as ours:
            yield ours
        return
    token = pytestconfig.getoption("--oip-token")
    model = pytestconfig.getoption("--oip-model") or _first_model(url, token)
    yield InferenceServer(url.rstrip("/"), model, token, pytestconfig.getoption("--oip-grpc"))


def _first_model(url: str, token: str | None) -> str:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    name: str = httpx.post(f"{url}/v2/repository/index", json={}, headers=headers).raise_for_status().json()[0]["name"]
    return name


@pytest.fixture(scope="session")
def http(server: InferenceServer) -> Iterator[httpx.Client]:
    """A client of the server, with the token."""
    headers = {"Authorization": f"Bearer {server.token}"} if server.token else {}
    with httpx.Client(base_url=server.url, headers=headers, timeout=30) as client:
        yield client


@dataclass(frozen=True)
class Model:
    """The model that is asked, and a valid input for it."""

    name: str
    metadata: dict[str, Any]
    extensions: frozenset[str]
    inputs: dict[str, bytes]
    """The bytes of each input tensor."""

    @property
    def path(self) -> str:
        return f"/v2/models/{self.name}"

    def shape(self, tensor: dict[str, Any]) -> list[int]:
        """Return a shape in which every open size is 1."""
        return [1 if size < 0 else size for size in tensor["shape"]]

    def binary_request(self, **fields: Any) -> tuple[dict[str, Any], bytes]:
        """Return a request with the data of its inputs after it."""
        inputs = [
            {
                "name": tensor["name"],
                "datatype": tensor["datatype"],
                "shape": self.shape(tensor),
                "parameters": {"binary_data_size": len(self.inputs[tensor["name"]])},
            }
            for tensor in self.metadata["inputs"]
        ]
        return {"inputs": inputs, **fields}, b"".join(self.inputs[tensor["name"]] for tensor in inputs)

    def requires(self, extension: str) -> None:
        """Leave out what the server does not say that it has."""
        if extension not in self.extensions:
            pytest.skip(f"the server has no extension {extension}")


@pytest.fixture(scope="session")
def model(http: httpx.Client, server: InferenceServer, pytestconfig: pytest.Config) -> Model:
    """The model under test."""
    extensions = http.get("/v2").raise_for_status().json()["extensions"]
    metadata = http.get(f"/v2/models/{server.model}").raise_for_status().json()
    default = Path(__file__).parents[1] / "data" / "chelsea.png"
    picture = Path(pytestconfig.getoption("--oip-picture", default=None) or default).read_bytes()
    inputs = {}
    for tensor in metadata["inputs"]:
        count = math.prod(abs(size) for size in tensor["shape"])
        element = len(picture).to_bytes(4, "little") + picture
        inputs[tensor["name"]] = (
            element * count if tensor["datatype"] == "BYTES" else np.zeros(count, NUMPY[tensor["datatype"]]).tobytes()
        )
    return Model(server.model, metadata, frozenset(extensions), inputs)
