"""A `models.yaml` that changes while the service runs."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import torch
import yaml
from inference_service.lifecycle.loading import Loader
from inference_service.lifecycle.registry import MODEL_NEED, ModelRegistry, ModelState
from inference_service.lifecycle.reloading import digest_of, follow_models_file
from inference_service.main import create_app
from inference_service.metrics import InferenceMetrics
from inference_service.settings import InferenceSettings
from inference_service.sources.kinds import read_sources
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from servicekit.background import running as in_background
from servicekit.health import Readiness
from structlog.testing import capture_logs
from torch import Tensor, nn

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


async def until(
    client: httpx.AsyncClient, bearer: Mapping[str, str], version: str, *, failed: str | None = None
) -> None:
    """Wait until this version answers, and another has failed with a reason like `failed`; or none has."""
    async with asyncio.timeout(60):
        while True:
            model = (await client.get("/models/program", headers=bearer)).json()
            reasons = [version["reason"] for version in model["versions"] if version["state"] == "failed"]
            as_expected = not reasons if failed is None else any(reason.startswith(failed) for reason in reasons)
            if model["version"] == version and as_expected:
                return
            await asyncio.sleep(0.02)


ASKERS = 16
NUMBERS = ["zero", "one", "two", "three", "four"]


class Always(nn.Module):
    """Names the same class for every picture: a version of its own can be told from the answers alone."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(10 * nn.functional.one_hot(torch.tensor(number), len(NUMBERS)).float())

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((1, 2, 3)).unsqueeze(1) + self.logits


class Askers:
    """Ask about pictures, all at once and again and again, and keep what they are answered."""

    def __init__(self, client: httpx.AsyncClient, bearer: Mapping[str, str]) -> None:
        self._client = client
        self._bearer = bearer
        self.statuses: list[int] = []
        self.answers: list[tuple[str, str]] = []
        """The version that each says to come from, and the class that it names."""

    @contextmanager
    def asking(self) -> Iterator[None]:
        tasks = [asyncio.create_task(self._ask()) for _ in range(ASKERS)]
        try:
            yield
        finally:
            for task in tasks:
                if task.done():
                    task.result()  # which says why it has failed
                task.cancel()

    async def until_answered_anew(self) -> None:
        """Wait until each has an answer to what was asked from now on."""
        enough = len(self.statuses) + 2 * ASKERS
        await until_true(lambda: len(self.statuses) >= enough)

    async def _ask(self) -> None:
        while True:
            response = await self._client.post("/predict", files={"file": read("coffee.png")}, headers=self._bearer)
            self.statuses.append(response.status_code)
            assert response.status_code == 200, response.text
            answer = response.json()
            self.answers.append((answer["model"]["version"], answer["label"]))


async def until_true(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 logs and answers set no event
            await asyncio.sleep(0.005)


def batches_of_several(metrics: str) -> float:
    """Return how many batches had more than one picture."""
    counts = {
        sample.labels["le"]: sample.value
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
        if sample.name == "inference_batch_size_bucket"
    }
    return counts["+Inf"] - counts["1.0"]


def always(folder: Path, number: int) -> Mapping[str, Any]:
    """Return the entry of a version that names the class of its own number."""
    exported(folder / f"{number}.pt2", Always(number))
    return {**PROGRAM, "version": number, "source": f"file:{number}.pt2", "labels": NUMBERS}


async def test_a_worker_that_takes_the_place_of_another_begins_with_what_the_file_says_by_then(
    tmp_path: Path, settings: InferenceSettings, bearer: Mapping[str, str]
) -> None:
    models_file = tmp_path / "models.yaml"
    first, second = (always(tmp_path, number) for number in (1, 2))
    write(models_file, first)
    following = settings.model_copy(update={"models_file": models_file, "models_poll_seconds": 60.0})
    app = create_app(following)  # by the master, whose copy each worker is
    write(models_file, second)
    async with running(app) as client:
        [model] = (await client.get("/models", headers=bearer)).json()
    assert model["version"] == "2"


async def test_models_change_under_load_with_no_error_and_no_mixed_batch(
    tmp_path: Path, settings: InferenceSettings, bearer: Mapping[str, str]
) -> None:
    models_file = tmp_path / "models.yaml"
    (tmp_path / "broken.pt2").write_bytes(b"no archive")
    first, second, third, fourth = (always(tmp_path, number) for number in range(1, 5))
    write(models_file, first)
    # Reading a program may stop all threads for seconds on a busy machine, and who came then is not to be refused.
    patient = {"request_timeout_seconds": 60.0}
    following = settings.model_copy(update={"models_file": models_file, "models_poll_seconds": 0.02, **patient})
    reason = f"{tmp_path}/broken.pt2 is not a program that this torch can read: "
    with capture_logs() as logged:
        async with running(create_app(following)) as client:
            await until_ready(client)
            askers = Askers(client, bearer)
            with askers.asking():
                await askers.until_answered_anew()
                write(models_file, second)
                await until(client, bearer, "2")
                models_file.write_text("models: nonsense")
                await until_true(lambda: any(entry["event"] == "models_file_invalid" for entry in logged))
                await askers.until_answered_anew()
                assert {version for version, _ in askers.answers[-ASKERS:]} == {"2"}
                write(models_file, {**third, "source": "file:broken.pt2"})
                await until(client, bearer, "2", failed=reason)
                await askers.until_answered_anew()
                assert {version for version, _ in askers.answers[-ASKERS:]} == {"2"}
                write(models_file, fourth)
                await until(client, bearer, "4")
                await askers.until_answered_anew()
            metrics = (await client.get("/metrics")).text
    assert set(askers.statuses) == {200}
    assert set(askers.answers) == {("1", "one"), ("2", "two"), ("4", "four")}
    assert batches_of_several(metrics) > 0


class Watched(type(Path())):  # type: ignore[misc]  # the class of this system
    """A file that tells how often it was read."""

    reads = 0

    def read_bytes(self) -> bytes:
        type(self).reads += 1
        return super().read_bytes()  # type: ignore[no-any-return]


async def test_what_an_administrator_unloads_stays_away_until_the_file_changes(tmp_path: Path) -> None:
    models_file = Watched(tmp_path / "models.yaml")
    exported(tmp_path / "program.pt2")
    write(models_file, PROGRAM)
    seen = digest_of(models_file)
    read = partial(read_sources, models_file, tmp_path)
    models = ModelRegistry(read(), Readiness(MODEL_NEED), InferenceMetrics(CollectorRegistry()), Loader(1))
    await models.load(read())
    await models.unload("program")
    looked = Watched.reads
    following = follow_models_file(models, models_file, read, poll_seconds=0.001, seen=seen)
    async with in_background(following, "follow"):
        await until_true(lambda: Watched.reads > looked + 2)
        away = models.get().state
        write(models_file, {**PROGRAM, "version": 2})
        await until_true(lambda: [served.source.version for served in models] == ["2"])
    assert away is ModelState.UNLOADED


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
        await until(client, bearer, "3")
        after = await client.post("/predict", files={"file": read("coffee.png")}, headers=bearer)
        metrics = (await client.get("/metrics")).text
    assert [answer.json()["model"]["version"] for answer in (before, after)] == ["1", "2"]
    assert 'inference_model_loads_total{model="program",outcome="ready"} 3.0' in metrics
