"""The start of the service: alive at once, ready when it can answer."""

import asyncio
import os
import threading
from collections.abc import Mapping
from pathlib import Path

import httpx
import torch
from inference_service.main import create_app
from inference_service.model import Model, ModelUnavailable
from inference_service.settings import InferenceSettings

from tests.asgi import running
from tests.unit.inference.conftest import until_ready
from tests.unit.inference.networks import tiny_model, tiny_source
from tests.unit.inference.pictures import read


async def test_it_lives_while_its_model_is_loaded_and_is_ready_after(
    settings: InferenceSettings, bearer: Mapping[str, str]
) -> None:
    opened = threading.Event()

    def load() -> Model:
        assert opened.wait(30)
        return tiny_model()

    async with running(create_app(settings, sources=[tiny_source(load=load)])) as client:
        assert (await client.get("/livez")).status_code == 200
        starting = await client.get("/readyz")
        [model] = (await client.get("/models", headers=bearer)).json()
        refused = await client.post("/predict", files={"file": read("coffee.png")}, headers=bearer)
        opened.set()
        await until_ready(client)
        answered = await client.post("/predict", files={"file": read("coffee.png")}, headers=bearer)
    assert starting.status_code == 503
    assert "model" in starting.json()["detail"]
    assert (model["state"], model["device"], model["label_count"]) == ("loading", None, None)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert answered.status_code == 200


async def test_what_a_killed_process_was_writing_is_removed_at_the_start(
    settings: InferenceSettings, tmp_path: Path
) -> None:
    folders = {name: tmp_path / name for name in ("weights_dir", "modes_dir", "workers_dir")}
    left = [folder / ".kept.abcdefgh.partial" for folder in folders.values()]
    for path in left:
        path.parent.mkdir()
        path.touch()
        os.utime(path, (0, 0))
    async with running(create_app(settings.model_copy(update=folders), sources=[tiny_source()])) as client:
        await until_ready(client)
    assert not any(path.exists() for path in left)


async def failing(settings: InferenceSettings, bearer: Mapping[str, str], error: Exception) -> tuple[str, str]:
    """Return what the probe and the list say of a model that fails to load."""
    failed = asyncio.Event()
    loop = asyncio.get_running_loop()

    def load() -> Model:
        loop.call_soon_threadsafe(failed.set)
        raise error

    async with running(create_app(settings, sources=[tiny_source(load=load)])) as client:
        await asyncio.wait_for(failed.wait(), 30)
        probe, model = await tell(client, bearer)
        async with asyncio.timeout(30):
            while model["state"] == "loading":
                await asyncio.sleep(0)  # requests in this process never wait, and the loading has to be heard
                probe, model = await tell(client, bearer)
    assert model["state"] == "failed"
    return probe, model["reason"]


async def tell(client: httpx.AsyncClient, bearer: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    response = await client.get("/models", headers=bearer)
    assert response.status_code == 200, response.text
    [model] = response.json()
    return (await client.get("/readyz")).json().get("detail", ""), model


async def test_a_model_without_weights_keeps_the_service_from_being_ready_and_says_why(
    settings: InferenceSettings, bearer: Mapping[str, str]
) -> None:
    probe, reason = await failing(settings, bearer, ModelUnavailable("the weights are not there"))
    assert reason == "the weights are not there"
    assert "tiny: the weights are not there" in probe


async def test_what_a_broken_model_raises_is_not_shown(settings: InferenceSettings, bearer: Mapping[str, str]) -> None:
    _, reason = await failing(settings, bearer, ZeroDivisionError("a path, a secret"))
    assert reason == "failed with ZeroDivisionError"


async def test_without_keys_it_is_not_ready(settings: InferenceSettings) -> None:
    app = create_app(settings.model_copy(update={"auth_url": "http://127.0.0.1:9"}), sources=[tiny_source()])
    async with running(app) as client:
        assert (await client.get("/livez")).status_code == 200
        response = await client.get("/readyz")
    assert response.status_code == 503
    assert "keys" in response.json()["detail"]


async def test_threads_are_named_and_those_of_torch_are_counted(
    settings: InferenceSettings, bearer: Mapping[str, str]
) -> None:
    seen: list[tuple[str, int]] = []

    def load() -> Model:
        seen.append((threading.current_thread().name, torch.get_num_threads()))
        return tiny_model()

    async with running(create_app(settings, sources=[tiny_source(load=load)])) as client:
        await until_ready(client)
        await client.post("/predict", files={"file": read("coffee.png")}, headers=bearer)
        names = {thread.name for thread in threading.enumerate()}
        metrics = (await client.get("/metrics")).text
    assert seen == [("load_0", 1)]
    assert {"decode_0", "model_0"} <= names
    assert 'inference_thread_budget{pool="decode"} 2.0' in metrics
    assert 'inference_thread_budget{pool="compute"} 1.0' in metrics
    assert "load_0" not in names
    assert not {thread.name for thread in threading.enumerate()} & {"decode_0", "model_0"}
