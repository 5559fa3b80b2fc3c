"""`POST /explain`: why a picture is taken for what it is."""

import asyncio
import io
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import torch
from inference_service.compute.agreement import inputs
from inference_service.compute.quantization import calibrate, save_ranges
from inference_service.model import Model, ModelSource
from inference_service.settings import InferenceSettings
from PIL import Image
from structlog.testing import capture_logs
from torch import Tensor, nn

from tests.issuer import Issuer
from tests.unit.inference.compute.test_quantization import convolutional
from tests.unit.inference.conftest import serving
from tests.unit.inference.networks import Gate, tiny_model, tiny_source
from tests.unit.inference.pictures import DATA
from tests.unit.inference.test_predict import RED

CHELSEA = (DATA / "chelsea.png").read_bytes()
PNG = {"Content-Type": "image/png"}
JSON = {"Accept": "application/json"}


async def test_the_default_is_the_picture_with_the_heat_over_it(
    efficientnet_client: httpx.AsyncClient, bearer: Mapping[str, str]
) -> None:
    answer = await efficientnet_client.post("/explain", content=CHELSEA, headers={**bearer, **PNG})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/png"
    drawn, picture = Image.open(io.BytesIO(answer.content)), Image.open(io.BytesIO(CHELSEA))
    assert drawn.size == picture.size
    assert drawn.getpixel((0, 0)) == picture.getpixel((0, 0)), "what the model does not see is as it was"
    assert drawn.tobytes() != picture.tobytes()


async def test_the_numbers_are_there_for_programs(
    efficientnet_client: httpx.AsyncClient, bearer: Mapping[str, str]
) -> None:
    headers = {**bearer, **PNG, **JSON}
    predicted = (await efficientnet_client.post("/predict", content=CHELSEA, headers=headers)).json()
    explained = (await efficientnet_client.post("/explain", content=CHELSEA, headers=headers)).json()
    assert explained["class"] == predicted["predicted_class"]
    assert (explained["label"], explained["model"]) == (predicted["label"], predicted["model"])
    assert explained["score"] == pytest.approx(predicted["score"], abs=1e-4)
    assert explained["method"] == "grad-cam"
    values = [value for row in explained["saliency"] for value in row]
    assert len(explained["saliency"]) == len(explained["saliency"][0]) == 7
    assert min(values) >= 0
    assert max(values) == 1
    other = await efficientnet_client.post("/explain?class=3", content=CHELSEA, headers=headers)
    assert other.json()["class"] == 3
    assert other.json()["score"] < explained["score"]
    assert other.json()["saliency"] != explained["saliency"]


async def test_a_network_without_feature_maps_is_explained_by_what_it_misses(
    client: httpx.AsyncClient, bearer: Mapping[str, str]
) -> None:
    answer = await client.post("/explain", files={"file": ("red.png", RED)}, headers={**bearer, **JSON})
    assert answer.status_code == 200, answer.text
    assert answer.json()["method"] == "occlusion"
    assert answer.json()["label"] == "red"
    assert len(answer.json()["saliency"]) == 8
    drawn = await client.post("/explain", files={"file": ("red.png", RED)}, headers=bearer)
    assert drawn.headers["content-type"] == "image/png"


def in_8_bits(folder: Path, load: Callable[[], Model]) -> ModelSource:
    """Return the source of a model that is served in 8 bits."""
    path, model = folder / "ranges.safetensors", convolutional()
    save_ranges(path, calibrate(model, inputs(model, 16)), digest=model.digest)
    return ModelSource("tiny", "1", "test:tiny", load, calibration=path)


async def test_a_model_in_8_bits_is_explained_by_the_layers_that_it_was_made_of(
    settings: InferenceSettings, bearer: Mapping[str, str], tmp_path: Path
) -> None:
    loads = 0

    def load() -> Model:
        nonlocal loads
        loads += 1
        return convolutional()

    headers = {**bearer, **PNG, **JSON}
    async with serving(settings, in_8_bits(tmp_path, load), tiny_source(name="eager", load=convolutional)) as client:
        predicted = (await client.post("/predict", content=CHELSEA, headers=headers)).json()
        before = loads
        first, second = [
            (await client.post("/explain?class=1", content=CHELSEA, headers=headers)).json() for _ in range(2)
        ]
        likeliest = (await client.post("/explain", content=CHELSEA, headers=headers)).json()
        eager = (await client.post("/explain?model=eager&class=1", content=CHELSEA, headers=headers)).json()
    assert [answer["method"] for answer in (first, second, likeliest, eager)] == ["grad-cam"] * 4
    assert first["saliency"] == second["saliency"]
    assert torch.allclose(torch.tensor(first["saliency"]), torch.tensor(eager["saliency"]), atol=1e-4)
    assert max(map(max, eager["saliency"])) == 1
    assert (likeliest["class"], likeliest["score"]) == (predicted["predicted_class"], predicted["score"])
    assert first["score"] != eager["score"], "it is that of 8 bits"
    assert loads == before + 1


async def test_a_model_in_8_bits_whose_source_is_another_by_now_is_explained_by_what_it_misses(
    settings: InferenceSettings, bearer: Mapping[str, str], tmp_path: Path
) -> None:
    models = iter([convolutional(), replace(convolutional(), digest="def")])
    async with serving(settings, in_8_bits(tmp_path, lambda: next(models))) as client:
        with capture_logs() as logged:
            answer = await client.post("/explain", content=CHELSEA, headers={**bearer, **PNG, **JSON})
    assert answer.json()["method"] == "occlusion"
    assert [entry["reason"] for entry in logged if entry["event"] == "eager_copy_failed"] == [
        "its source has other weights by now"
    ]


async def test_a_model_that_normalizes_on_its_device_is_explained_as_one_that_is_given_normalized_pictures(
    settings: InferenceSettings, bearer: Mapping[str, str]
) -> None:
    """The colour of what is left out is the mean, not the black that 0 is among grey levels."""
    model = tiny_model()
    here = replace(model, preprocessing=replace(model.preprocessing, mean=(120.0, 110.0, 100.0), std=(60.0,) * 3))
    there = replace(here, preprocessing=replace(here.preprocessing, normalizes=False))
    sources = tiny_source(name="a", load=lambda: here), tiny_source(name="b", load=lambda: there)
    async with serving(settings, *sources) as client:
        answers = [
            (await client.post(f"/explain?model={name}", content=CHELSEA, headers={**bearer, **PNG, **JSON})).json()
            for name in ("a", "b")
        ]
    assert [answer["model"]["name"] for answer in answers] == ["a", "b"]
    assert [answer["method"] for answer in answers] == ["occlusion"] * 2
    assert answers[0]["saliency"] == answers[1]["saliency"]
    assert max(map(max, answers[0]["saliency"])) == 1


async def test_a_network_whose_maps_are_single_points_is_explained_by_what_it_misses_too(
    settings: InferenceSettings, bearer: Mapping[str, str]
) -> None:
    points = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 3, 1), nn.Flatten()).eval()
    async with serving(settings, tiny_source(points)) as client:
        answer = await client.post("/explain", files={"file": ("red.png", RED)}, headers={**bearer, **JSON})
    assert answer.status_code == 200, answer.text
    assert answer.json()["method"] == "occlusion"


class GateThenConvolution(Gate):
    """A gate that has a feature map, and notes what it computes."""

    def __init__(self) -> None:
        super().__init__()
        self.convolve = nn.Conv2d(3, 3, 1)
        self.batches: list[bool] = []

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.convolve(images)
        self.batches.append(features.requires_grad and images.requires_grad is False and bool(features.grad_fn))
        super().forward(images)
        return features.mean((2, 3))


async def test_predictions_that_came_later_go_first(settings: InferenceSettings, bearer: Mapping[str, str]) -> None:
    network = GateThenConvolution().requires_grad_(requires_grad=False)
    headers = {**bearer, **PNG, **JSON}
    async with serving(settings, tiny_source(network)) as client:

        async def waiting(count: int) -> None:
            async with asyncio.timeout(30):
                while f"inference_queue_size {count}.0" not in (await client.get("/metrics")).text:  # noqa: ASYNC110
                    await asyncio.sleep(0.005)

        network.batches.clear()
        async with asyncio.TaskGroup() as group:
            first = group.create_task(client.post("/predict", content=RED, headers=headers))
            await asyncio.to_thread(network.entered.wait, 30)
            explained = group.create_task(client.post("/explain", content=RED, headers=headers))
            await waiting(1)
            later = group.create_task(client.post("/predict", content=RED, headers=headers))
            await waiting(2)
            network.opened.set()
        assert [task.result().status_code for task in (first, explained, later)] == [200] * 3
    assert network.batches == [False, False, True]


@pytest.mark.parametrize(
    ("query", "status", "slug"),
    [
        ("?class=3", 404, "unknown-class"),
        ("?class=-1", 422, "invalid-request"),
        ("?class=", 422, "invalid-request"),
        ("?model=other", 404, "unknown-model"),
        ("?version=7", 404, "unknown-model"),
    ],
)
async def test_what_is_not_there_is_refused(
    client: httpx.AsyncClient, bearer: Mapping[str, str], query: str, status: int, slug: str
) -> None:
    answer = await client.post(f"/explain{query}", content=RED, headers={**bearer, **PNG})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"].endswith(slug)


async def test_only_who_may_predict_may_ask_why(client: httpx.AsyncClient, issuer: Issuer) -> None:
    assert (await client.post("/explain", content=RED, headers=PNG)).status_code == 401
    other = issuer.bearer(scope="profile")
    assert (await client.post("/explain", content=RED, headers={**other, **PNG})).status_code == 403


async def test_a_file_that_is_no_picture_is_refused(client: httpx.AsyncClient, bearer: Mapping[str, str]) -> None:
    assert (await client.post("/explain", content=b"words", headers={**bearer, **PNG})).status_code == 415
    assert (await client.post("/explain", content=RED[:40], headers={**bearer, **PNG})).status_code == 422
    slow = {**bearer, **PNG, "X-Request-Timeout": "1e-9"}
    assert (await client.post("/explain", content=RED, headers=slow)).status_code == 504
