"""What every server of the Open Inference Protocol V2 does over REST, and what Triton's extensions add."""

import gzip
import json
import math
import time
import zlib
from typing import Any

import httpx
import numpy as np
import pytest

from tests.conformance.conftest import NUMPY, Model
from tests.inference_process import InferenceServer

pytestmark = pytest.mark.timeout(400)  # the first test starts a server


def infer(http: httpx.Client, model: Model, request: dict[str, Any], data: bytes, **headers: str) -> httpx.Response:
    header = json.dumps(request).encode()
    lengths = {"Inference-Header-Content-Length": str(len(header)), **headers}
    return http.post(f"{model.path}/infer", content=header + data, headers=lengths)


def answer(response: httpx.Response) -> tuple[dict[str, Any], bytes]:
    """Return the JSON object and the data after it."""
    assert response.status_code == 200, response.text
    length = int(response.headers.get("inference-header-content-length", len(response.content)))
    return json.loads(response.content[:length]), response.content[length:]


def assert_refused(response: httpx.Response) -> None:
    """An error of the caller has a status from 400 and says what is wrong."""
    assert 400 <= response.status_code < 500, response.text
    assert response.json()["error"]
    assert isinstance(response.json()["error"], str)


@pytest.mark.parametrize("probe", ["live", "ready"])
def test_the_server_is_healthy(http: httpx.Client, probe: str) -> None:
    gives_up_at = time.monotonic() + 60  # a server that is starved of CPU may be unready for a moment
    while http.get(f"/v2/health/{probe}").status_code != 200:
        assert time.monotonic() < gives_up_at
        time.sleep(0.1)


def test_the_server_describes_itself(http: httpx.Client) -> None:
    metadata = http.get("/v2").json()
    assert all(isinstance(metadata[field], str) for field in ("name", "version"))
    assert all(isinstance(extension, str) for extension in metadata["extensions"])


def test_the_model_describes_itself(model: Model) -> None:
    metadata = model.metadata
    assert metadata["name"] == model.name
    assert isinstance(metadata["platform"], str)
    assert metadata["inputs"]
    assert metadata["outputs"]
    for tensor in (*metadata["inputs"], *metadata["outputs"]):
        assert tensor["datatype"] in {*NUMPY, "BYTES", "BF16"}
        assert all(isinstance(size, int) and size >= -1 for size in tensor["shape"])


def test_the_model_is_ready(http: httpx.Client, model: Model) -> None:
    assert http.get(f"{model.path}/ready").status_code == 200
    for version in model.metadata.get("versions", []):
        assert http.get(f"{model.path}/versions/{version}/ready").status_code == 200
        assert http.get(f"{model.path}/versions/{version}").json()["name"] == model.name


def test_an_inference_gives_the_outputs_of_the_metadata(http: httpx.Client, model: Model) -> None:
    model.requires("binary_tensor_data")
    document, rest = answer(infer(http, model, *model.binary_request(id="a request")))
    assert (document["model_name"], document["id"], rest) == (model.name, "a request", b"")
    described = {tensor["name"]: tensor for tensor in model.metadata["outputs"]}
    assert {output["name"] for output in document["outputs"]} == set(described)
    for output in document["outputs"]:
        tensor = described[output["name"]]
        assert output["datatype"] == tensor["datatype"]
        assert len(output["shape"]) == len(tensor["shape"])
        assert all(size in (-1, got) for size, got in zip(tensor["shape"], output["shape"], strict=True))
        assert np.asarray(output["data"]).size == math.prod(output["shape"])


def test_only_what_is_asked_for_is_answered(http: httpx.Client, model: Model) -> None:
    model.requires("binary_tensor_data")
    name = model.metadata["outputs"][-1]["name"]
    document, _ = answer(infer(http, model, *model.binary_request(outputs=[{"name": name}])))
    assert [output["name"] for output in document["outputs"]] == [name]


def test_binary_data_are_the_numbers_of_json(http: httpx.Client, model: Model) -> None:
    model.requires("binary_tensor_data")
    plain, _ = answer(infer(http, model, *model.binary_request()))
    binary, data = answer(infer(http, model, *model.binary_request(parameters={"binary_data_output": True})))
    for expected, output in zip(plain["outputs"], binary["outputs"], strict=True):
        size = output["parameters"]["binary_data_size"]
        assert "data" not in output
        if output["datatype"] in NUMPY:
            numbers = np.frombuffer(data[:size], NUMPY[output["datatype"]])
            assert numbers == pytest.approx(np.ravel(expected["data"]), rel=1e-4, abs=1e-6)
        data = data[size:]
    assert data == b""


def test_one_output_may_be_binary(http: httpx.Client, model: Model) -> None:
    model.requires("binary_tensor_data")
    first, *others = (tensor["name"] for tensor in model.metadata["outputs"])
    outputs = [{"name": first, "parameters": {"binary_data": True}}, *({"name": name} for name in others)]
    document, data = answer(infer(http, model, *model.binary_request(outputs=outputs)))
    assert document["outputs"][0]["parameters"]["binary_data_size"] == len(data)
    assert all("data" in output for output in document["outputs"][1:])


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_bodies_may_be_compressed(http: httpx.Client, model: Model, encoding: str) -> None:
    model.requires("binary_tensor_data")
    request, data = model.binary_request()
    header = json.dumps(request).encode()
    body = (gzip.compress if encoding == "gzip" else zlib.compress)(header + data)
    headers = {
        "Inference-Header-Content-Length": str(len(header)),
        "Content-Encoding": encoding,
        "Accept-Encoding": encoding,
    }
    response = http.post(f"{model.path}/infer", content=body, headers=headers)
    assert answer(response)[0]["model_name"] == model.name


def test_classes_are_named(http: httpx.Client, model: Model) -> None:
    model.requires("classification")
    name = model.metadata["outputs"][-1]["name"]
    outputs = [{"name": name, "parameters": {"classification": 3}}]
    document, _ = answer(infer(http, model, *model.binary_request(outputs=outputs)))
    [output] = document["outputs"]
    assert (output["datatype"], output["shape"][-1]) == ("BYTES", 3)
    values = [float(text.split(":")[0]) for text in output["data"]]
    assert values == sorted(values, reverse=True)
    assert all(text.split(":")[1].isdecimal() for text in output["data"])


def test_inferences_are_counted(http: httpx.Client, model: Model) -> None:
    model.requires("statistics")

    def successes() -> int:
        statistics = http.get(f"{model.path}/stats").json()["model_stats"]
        assert {entry["name"] for entry in statistics} == {model.name}
        return sum(entry["inference_stats"]["success"]["count"] for entry in statistics)

    before = successes()
    answer(infer(http, model, *model.binary_request()))
    assert successes() >= before + 1


def test_the_configuration_names_the_model(http: httpx.Client, model: Model) -> None:
    model.requires("model_configuration")
    config = http.get(f"{model.path}/config").json()
    assert config["name"] == model.name
    assert {tensor["name"] for tensor in config["input"]} == {tensor["name"] for tensor in model.metadata["inputs"]}


def test_the_index_lists_the_model(http: httpx.Client, model: Model) -> None:
    model.requires("model_repository")
    for body in ({}, {"ready": True}):
        entries = http.post("/v2/repository/index", json=body).json()
        assert "READY" in {entry["state"] for entry in entries if entry["name"] == model.name}


@pytest.mark.parametrize("path", ["", "/versions/999999"])
@pytest.mark.parametrize("rest", ["", "/ready"])
def test_an_unknown_model_is_refused(http: httpx.Client, model: Model, path: str, rest: str) -> None:
    name = model.name if path else "no-such-model"
    response = http.get(f"/v2/models/{name}{path}{rest}")
    assert 400 <= response.status_code < 500


def test_an_inference_of_an_unknown_model_is_refused(http: httpx.Client, model: Model) -> None:
    request, data = model.binary_request()
    body = json.dumps(request).encode()
    headers = {"Inference-Header-Content-Length": str(len(body))}
    assert_refused(http.post("/v2/models/no-such-model/infer", content=body + data, headers=headers))


@pytest.mark.parametrize("body", [b"{", b"{}", b'{"inputs": []}', b"[]"])
def test_what_is_no_request_is_refused(http: httpx.Client, model: Model, body: bytes) -> None:
    assert_refused(http.post(f"{model.path}/infer", content=body))


def test_a_shape_that_does_not_fit_is_refused(http: httpx.Client, model: Model) -> None:
    request, data = model.binary_request()
    request["inputs"][0]["shape"] = [*request["inputs"][0]["shape"], 7]
    assert_refused(infer(http, model, request, data))


def test_a_datatype_that_does_not_fit_is_refused(http: httpx.Client, model: Model) -> None:
    request, data = model.binary_request()
    request["inputs"][0]["datatype"] = "INT64" if request["inputs"][0]["datatype"] != "INT64" else "FP32"
    assert_refused(infer(http, model, request, data))


def test_an_unknown_input_or_output_is_refused(http: httpx.Client, model: Model) -> None:
    request, data = model.binary_request()
    request["inputs"][0]["name"] = "no-such-input"
    assert_refused(infer(http, model, request, data))
    assert_refused(infer(http, model, *model.binary_request(outputs=[{"name": "no-such-output"}])))


def test_data_of_another_size_are_refused(http: httpx.Client, model: Model) -> None:
    model.requires("binary_tensor_data")
    request, data = model.binary_request()
    assert_refused(infer(http, model, request, data[:-1]))
    assert_refused(infer(http, model, request, data + b"x"))


def test_without_the_token_nothing_is_answered(server: InferenceServer, model: Model) -> None:
    if server.token is None:
        pytest.skip("no token was given for the server")
    request, _ = model.binary_request()
    response = httpx.post(f"{server.url}{model.path}/infer", json=request)
    assert response.status_code in (401, 403)
