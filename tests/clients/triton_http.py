"""`tritonclient.http`, unmodified, against the server at OIP_URL. Run in the environment of the clients."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException

ADDRESS = os.environ["OIP_URL"].removeprefix("http://")
MODEL = os.environ["OIP_MODEL"]
HEADERS = {"Authorization": f"Bearer {os.environ['OIP_TOKEN']}"}
PICTURE = Path(os.environ["OIP_PICTURE"]).read_bytes()


@pytest.fixture
def client() -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(ADDRESS, concurrency=4) as client:
        yield client


def files(*data: bytes) -> triton.InferInput:
    tensor = triton.InferInput("image", [len(data), 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[each] for each in data], np.object_))
    return tensor


def test_health_and_metadata(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL, headers=dict(HEADERS))
    assert not client.is_model_ready("other", headers=dict(HEADERS))
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    assert client.get_model_metadata(MODEL, headers=dict(HEADERS))["inputs"][0]["name"] == "image"
    assert client.get_model_config(MODEL, headers=dict(HEADERS))["max_batch_size"] > 1
    assert client.get_model_repository_index(headers=dict(HEADERS))[0]["state"] == "READY"
    assert client.get_inference_statistics(MODEL, headers=dict(HEADERS))["model_stats"][0]["name"] == MODEL


def test_files_in_binary(client: triton.InferenceServerClient) -> None:
    result = client.infer(MODEL, [files(PICTURE, PICTURE)], headers=dict(HEADERS), request_id="mine")
    assert result.get_response()["id"] == "mine"
    assert result.as_numpy("probabilities").shape == (2, 1000)
    assert result.as_numpy("probabilities").sum(1) == pytest.approx([1, 1], abs=1e-4)
    assert 281 <= result.as_numpy("logits")[0].argmax() <= 285


@pytest.mark.parametrize("binary", [True, False])
def test_pixels_and_classes(client: triton.InferenceServerClient, binary: bool) -> None:
    tensor = triton.InferInput("image", [1, 40, 30, 3], "UINT8")
    tensor.set_data_from_numpy(np.full((1, 40, 30, 3), 200, np.uint8), binary_data=binary)
    wanted = triton.InferRequestedOutput("probabilities", binary_data=binary, class_count=3)
    result = client.infer(MODEL, [tensor], outputs=[wanted], headers=dict(HEADERS))
    named = result.as_numpy("probabilities")
    assert named.shape == (1, 3)
    value, index, label = (named[0, 0].decode() if binary else named[0, 0]).split(":")
    assert 0 < float(value) <= 1
    assert 0 <= int(index) < 1000
    assert label


@pytest.mark.parametrize("binary", [True, False])
def test_the_input_of_the_network(client: triton.InferenceServerClient, binary: bool) -> None:
    values = np.random.default_rng(0).standard_normal((1, 3, 224, 224), np.float32)
    tensor = triton.InferInput("image", list(values.shape), "FP32")
    tensor.set_data_from_numpy(values, binary_data=binary)
    wanted = triton.InferRequestedOutput("logits", binary_data=binary)
    assert client.infer(MODEL, [tensor], outputs=[wanted], headers=dict(HEADERS)).as_numpy("logits").shape == (1, 1000)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compression(client: triton.InferenceServerClient, algorithm: str) -> None:
    result = client.infer(
        MODEL,
        [files(PICTURE)],
        headers=dict(HEADERS),
        request_compression_algorithm=algorithm,
        response_compression_algorithm=algorithm,
    )
    assert result.as_numpy("logits").shape == (1, 1000)


def test_many_at_once(client: triton.InferenceServerClient) -> None:
    pending = [client.async_infer(MODEL, [files(PICTURE)], headers=dict(HEADERS)) for _ in range(8)]
    best = {int(each.get_result().as_numpy("logits").argmax()) for each in pending}
    assert len(best) == 1
    assert best < set(range(281, 286))


def test_asyncio() -> None:
    async def ask() -> None:
        async with triton_aio.InferenceServerClient(ADDRESS) as client:
            assert await client.is_server_ready()
            result = await client.infer(MODEL, [files(PICTURE)], headers=dict(HEADERS))
            assert result.as_numpy("logits").shape == (1, 1000)

    asyncio.run(ask())


def test_priority_and_timeout(client: triton.InferenceServerClient) -> None:
    result = client.infer(MODEL, [files(PICTURE)], headers=dict(HEADERS), priority=2, timeout=20_000_000)
    assert result.as_numpy("logits") is not None


@pytest.mark.parametrize(
    ("model", "tensor", "headers", "status", "words"),
    [
        ("other", files(PICTURE), HEADERS, "404", "other"),
        (MODEL, files(PICTURE), {}, "401", "bearer token"),
        (MODEL, files(PICTURE, b"no picture"), HEADERS, "400", "item 1"),
        (MODEL, triton.InferInput("image", [1, 2, 3], "FP32"), HEADERS, "400", "FP32"),
        (MODEL, triton.InferInput("other", [1, 3, 2, 2], "FP32"), HEADERS, "400", "'other'"),
    ],
    ids=["model", "token", "item", "shape", "input"],
)
def test_errors(
    client: triton.InferenceServerClient,
    model: str,
    tensor: triton.InferInput,
    headers: dict[str, str],
    status: str,
    words: str,
) -> None:
    if tensor.datatype() == "FP32":
        tensor.set_data_from_numpy(np.zeros(tensor.shape(), np.float32))
    with pytest.raises(InferenceServerException, match=words) as caught:
        client.infer(model, [tensor], headers=dict(headers))
    assert caught.value.status() == status


def test_models_come_and_go(client: triton.InferenceServerClient) -> None:
    client.unload_model(MODEL, headers=dict(HEADERS))
    assert not client.is_model_ready(MODEL, headers=dict(HEADERS))
    client.load_model(MODEL, headers=dict(HEADERS))
    assert client.is_model_ready(MODEL, headers=dict(HEADERS))
