"""KServe's `InferenceRESTClient`, unmodified, against the server at OIP_URL. Run in the environment of the clients."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import httpx
import numpy as np
import pytest
from kserve import InferenceRESTClient, InferInput, InferOutput, InferRequest
from kserve.inference_client import RESTConfig
from kserve.protocol.infer_type import RequestedOutput

URL = os.environ["OIP_URL"]
MODEL = os.environ["OIP_MODEL"]
HEADERS = {"Authorization": f"Bearer {os.environ['OIP_TOKEN']}"}
PICTURE = Path(os.environ["OIP_PICTURE"]).read_bytes()

T = TypeVar("T")


def ask(question: Callable[[InferenceRESTClient], Awaitable[T]]) -> T:
    async def run() -> T:
        client = InferenceRESTClient(RESTConfig(protocol="v2", retries=0))
        try:
            return await question(client)
        finally:
            await client.close()

    return asyncio.run(run())


def files(*data: bytes) -> InferInput:
    tensor = InferInput("image", [len(data), 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[each] for each in data], np.object_), binary_data=True)
    return tensor


def output(answer: object, name: str) -> InferOutput:
    [found] = [each for each in answer.outputs if each.name == name]  # type: ignore[attr-defined]
    return found


def test_health() -> None:
    assert ask(lambda client: client.is_server_live(URL)) is True
    assert ask(lambda client: client.is_server_ready(URL)) is True
    assert ask(lambda client: client.is_model_ready(URL, MODEL, headers=HEADERS)) is True


def test_files_in_binary() -> None:
    request = InferRequest(MODEL, [files(PICTURE, PICTURE)], "mine")
    answer = ask(lambda client: client.infer(URL, request, model_name=MODEL, headers=dict(HEADERS)))
    assert (answer.model_name, answer.id) == (MODEL, "mine")
    assert output(answer, "probabilities").as_numpy().shape == (2, 1000)


def test_numbers_in_json() -> None:
    values = np.random.default_rng(0).standard_normal((1, 3, 224, 224), np.float32)
    tensor = InferInput("image", list(values.shape), "FP32")
    tensor.set_data_from_numpy(values, binary_data=False)
    request = InferRequest(MODEL, [tensor])
    answer = ask(lambda client: client.infer(URL, request, model_name=MODEL, headers=dict(HEADERS)))
    assert output(answer, "logits").as_numpy().shape == (1, 1000)


def test_classes_in_binary() -> None:
    wanted = RequestedOutput("probabilities", parameters={"classification": 3, "binary_data": True})
    request = InferRequest(MODEL, [files(PICTURE)], request_outputs=[wanted])
    answer = ask(lambda client: client.infer(URL, request, model_name=MODEL, headers=dict(HEADERS)))
    named = output(answer, "probabilities").as_numpy()
    assert named.shape == (1, 3)
    assert 281 <= int(named[0, 0].split(":")[1]) <= 285


@pytest.mark.parametrize(
    ("model", "data", "headers", "status"),
    [("other", PICTURE, HEADERS, 404), (MODEL, PICTURE, {}, 401), (MODEL, b"no picture", HEADERS, 400)],
    ids=["model", "token", "item"],
)
def test_errors(model: str, data: bytes, headers: dict[str, str], status: int) -> None:
    request = InferRequest(model, [files(data)])
    with pytest.raises(httpx.HTTPStatusError) as caught:
        ask(lambda client: client.infer(URL, request, model_name=model, headers=dict(headers)))
    assert caught.value.response.status_code == status
    assert caught.value.response.json()["error"]
