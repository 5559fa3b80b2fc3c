"""A `models.yaml` that changes while the service runs."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import yaml
from inference_service.main import create_app
from inference_service.settings import InferenceSettings

from tests.asgi import running
from tests.unit.inference.conftest import until_ready
from tests.unit.inference.pictures import read
from tests.unit.inference.weight_files import exported

PROGRAM = {
    "name": "program",
    "source": "file:program.pt2",
    "labels": ["red", "green", "blue"],
    "preprocessing": {"resize_size": 8, "crop_size": 8},
}


def write(path: Path, *entries: Mapping[str, Any]) -> None:
    path.write_text(yaml.safe_dump({"models": [dict(entry) for entry in entries]}))


async def until(client: httpx.AsyncClient, bearer: Mapping[str, str], expected: tuple[str, str | None]) -> None:
    """Wait until the model that answers has this version and reason."""
    async with asyncio.timeout(60):
        while True:
            model = (await client.get("/models/program", headers=bearer)).json()
            failed = [version["reason"] for version in model["versions"] if version["state"] == "failed"]
            if (model["version"], failed[0] if failed else None) == expected:
                return
            await asyncio.sleep(0.02)


async def test_models_change_with_the_file_while_requests_are_answered(
    tmp_path: Path, settings: InferenceSettings, bearer: Mapping[str, str]
) -> None:
    models_file = tmp_path / "models.yaml"
    exported(tmp_path / "program.pt2")
    (tmp_path / "broken.pt2").write_bytes(b"no archive")
    write(models_file, PROGRAM)
    following = settings.model_copy(update={"models_file": models_file, "models_poll_seconds": 0.02})
    statuses: list[int] = []

    async def ask(client: httpx.AsyncClient) -> None:
        while True:
            answer = await client.post("/predict", files={"file": read("coffee.png")}, headers=bearer)
            statuses.append(answer.status_code)

    async with running(create_app(following)) as client:
        await until_ready(client)
        asking = asyncio.create_task(ask(client))
        write(models_file, {**PROGRAM, "version": 2})
        await until(client, bearer, ("2", None))
        models_file.write_text("models: nonsense")
        write(models_file, {**PROGRAM, "version": 3, "source": "file:broken.pt2"})
        reason = f"{tmp_path}/broken.pt2 is not a program that this torch can read: "
        async with asyncio.timeout(60):
            failed: list[str] = []
            while not failed:
                model = (await client.get("/models/program", headers=bearer)).json()
                failed = [version["reason"] for version in model["versions"] if version["state"] == "failed"]
                await asyncio.sleep(0.02)
        assert failed[0].startswith(reason)
        assert model["version"] == "2"
        write(models_file, {**PROGRAM, "version": 4})
        await until(client, bearer, ("4", None))
        asking.cancel()
    assert set(statuses) == {200}


async def test_weights_of_a_rollout_change_without_loading_anything(
    tmp_path: Path, settings: InferenceSettings, bearer: Mapping[str, str]
) -> None:
    models_file = tmp_path / "models.yaml"
    exported(tmp_path / "program.pt2")
    write(models_file, PROGRAM, {**PROGRAM, "version": 2, "weight": 0}, {**PROGRAM, "version": 3, "shadow": 10})
    following = settings.model_copy(update={"models_file": models_file, "models_poll_seconds": 0.02})
    async with running(create_app(following)) as client:
        await until_ready(client)
        before = await client.post("/predict", files={"file": read("coffee.png")}, headers=bearer)
        write(models_file, PROGRAM, {**PROGRAM, "version": 2, "weight": 100}, {**PROGRAM, "version": 3})
        await until(client, bearer, ("3", None))
        after = await client.post("/predict", files={"file": read("coffee.png")}, headers=bearer)
        metrics = (await client.get("/metrics")).text
    assert [answer.json()["model"]["version"] for answer in (before, after)] == ["1", "2"]
    assert 'inference_model_loads_total{model="program",outcome="ready"} 3.0' in metrics
