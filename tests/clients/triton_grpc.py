"""`tritonclient.grpc`, unmodified, against the server at OIP_GRPC. Run in the environment of the clients."""

import asyncio
import os
import queue
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException

ADDRESS = os.environ["OIP_GRPC"]
MODEL = os.environ["OIP_MODEL"]
HEADERS = {"authorization": f"Bearer {os.environ['OIP_TOKEN']}"}
PICTURE = Path(os.environ["OIP_PICTURE"]).read_bytes()


@pytest.fixture
def client() -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(ADDRESS) as client:
        yield client


def files(*data: bytes) -> triton.InferInput:
    tensor = triton.InferInput("image", [len(data), 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[each] for each in data], np.object_))
    return tensor


def test_health_and_metadata(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL, headers=HEADERS)
    assert "statistics" in client.get_server_metadata().extensions
    assert client.get_model_metadata(MODEL, headers=HEADERS).inputs[0].name == "image"
    config = client.get_model_config(MODEL, headers=HEADERS).config
    assert config.max_batch_size > 1
    assert config.input[0].name == "image"
    assert list(config.output[0].dims) == [1000]
    assert client.get_model_repository_index(headers=HEADERS).models[0].state == "READY"
    assert client.get_inference_statistics(MODEL, headers=HEADERS).model_stats[0].name == MODEL


@pytest.mark.parametrize("algorithm", [None, "gzip", "deflate"])
def test_files_and_classes(client: triton.InferenceServerClient, algorithm: str | None) -> None:
    outputs = [triton.InferRequestedOutput("logits"), triton.InferRequestedOutput("probabilities", class_count=2)]
    result = client.infer(
        MODEL,
        [files(PICTURE, PICTURE)],
        outputs=outputs,
        headers=HEADERS,
        request_id="mine",
        compression_algorithm=algorithm,
    )
    assert result.get_response().id == "mine"
    assert result.as_numpy("logits").shape == (2, 1000)
    assert result.as_numpy("probabilities").shape == (2, 2)
    assert 281 <= int(result.as_numpy("probabilities")[0, 0].decode().split(":")[1]) <= 285


def test_the_input_of_the_network(client: triton.InferenceServerClient) -> None:
    values = np.random.default_rng(0).standard_normal((1, 3, 224, 224), np.float32)
    tensor = triton.InferInput("image", list(values.shape), "FP32")
    tensor.set_data_from_numpy(values)
    assert client.infer(MODEL, [tensor], headers=HEADERS).as_numpy("logits").shape == (1, 1000)


def test_a_stream(client: triton.InferenceServerClient) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)), headers=HEADERS)
    for number in range(6):
        data = b"no picture" if number == 2 else PICTURE
        client.async_stream_infer(MODEL, [files(data)], request_id=str(number))
    got = [answers.get(timeout=30) for _ in range(6)]
    client.stop_stream()
    assert [error is not None for _, error in got] == [number == 2 for number in range(6)]
    assert [result.get_response().id for result, error in got if error is None] == ["0", "1", "3", "4", "5"]


def test_a_callback(client: triton.InferenceServerClient) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.async_infer(MODEL, [files(PICTURE)], lambda result, error: answers.put((result, error)), headers=HEADERS)
    result, error = answers.get(timeout=30)
    assert error is None
    assert result.as_numpy("logits").shape == (1, 1000)


def test_asyncio() -> None:
    async def ask() -> None:
        async with triton_aio.InferenceServerClient(ADDRESS) as client:
            result = await client.infer(MODEL, [files(PICTURE)], headers=HEADERS)
            assert result.as_numpy("logits").shape == (1, 1000)

            async def requests() -> AsyncIterator[dict[str, Any]]:
                for number in range(3):
                    yield {"model_name": MODEL, "inputs": [files(PICTURE)], "request_id": str(number)}

            got = [result.get_response().id async for result, _ in client.stream_infer(requests(), headers=HEADERS)]
            assert got == ["0", "1", "2"]

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("model", "data", "headers", "status"),
    [
        ("other", PICTURE, HEADERS, "StatusCode.NOT_FOUND"),
        (MODEL, PICTURE, {}, "StatusCode.UNAUTHENTICATED"),
        (MODEL, b"no picture", HEADERS, "StatusCode.INVALID_ARGUMENT"),
    ],
    ids=["model", "token", "item"],
)
def test_errors(
    client: triton.InferenceServerClient, model: str, data: bytes, headers: dict[str, str], status: str
) -> None:
    with pytest.raises(InferenceServerException) as caught:
        client.infer(model, [files(data)], headers=headers)
    assert caught.value.status() == status


def test_a_deadline(client: triton.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException) as caught:
        client.infer(MODEL, [files(*[PICTURE + bytes([n]) for n in range(32)])], headers=HEADERS, client_timeout=0.01)
    assert caught.value.status() == "StatusCode.DEADLINE_EXCEEDED"


def test_models_come_and_go(client: triton.InferenceServerClient) -> None:
    client.unload_model(MODEL, headers=HEADERS)
    assert not client.is_model_ready(MODEL, headers=HEADERS)
    client.load_model(MODEL, headers=HEADERS)
    assert client.is_model_ready(MODEL, headers=HEADERS)
