"""`GET /models`: what is served, for those who may predict."""

import asyncio
from collections.abc import AsyncIterator, Mapping

import httpx
import pytest
from inference_service.main import create_app
from inference_service.model import Model, ModelUnavailable
from inference_service.settings import InferenceSettings

from tests.asgi import running
from tests.issuer import Issuer
from tests.unit.inference.networks import LABELS, tiny_source
from tests.unit.inference.pictures import read

SUMMARY = {
    "name": "tiny",
    "version": "1",
    "state": "ready",
    "reason": None,
    "weight": None,
    "shadow": None,
    "source": "test:tiny",
    "device": "cpu",
    "dtype": "float32",
    "mode": "eager",
    "input_size": [3, 8, 8],
    "label_count": 3,
    "digest": None,
}


@pytest.mark.parametrize("path", ["/models", "/models/"])
async def test_the_models_are_listed(client: httpx.AsyncClient, bearer: Mapping[str, str], path: str) -> None:
    response = await client.get(path, headers=bearer)
    assert (response.status_code, response.json()) == (200, [SUMMARY])


async def test_one_model_has_its_labels(client: httpx.AsyncClient, bearer: Mapping[str, str]) -> None:
    response = await client.get("/models/tiny", headers=bearer)
    assert (response.status_code, response.json()) == (
        200,
        {**SUMMARY, "labels": list(LABELS), "modes": [], "versions": [SUMMARY]},
    )


@pytest.fixture
async def versions(settings: InferenceSettings) -> AsyncIterator[httpx.AsyncClient]:
    """A service with versions 2, 10 and 9 of a model, of which the newest never gets ready."""

    def fail() -> Model:
        raise ModelUnavailable("no weights")

    sources = [tiny_source(version="2"), tiny_source(version="9"), tiny_source(version="10", load=fail)]
    async with running(create_app(settings, sources=sources)) as client:
        async with asyncio.timeout(30):
            # They are loaded in their order, and the probe alone tells.
            while "no weights" not in (await client.get("/readyz")).text:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        yield client


async def test_the_newest_version_that_is_ready_answers(versions: httpx.AsyncClient, bearer: Mapping[str, str]) -> None:
    model = (await versions.get("/models/tiny", headers=bearer)).json()
    answer = await versions.post("/predict", files={"file": read("coffee.png")}, headers=bearer)
    assert answer.json()["model"] == {"name": "tiny", "version": "9"}
    assert [(found["version"], found["state"], found["reason"]) for found in model["versions"]] == [
        ("10", "failed", "no weights"),
        ("9", "ready", None),
        ("2", "ready", None),
    ]


@pytest.mark.parametrize(
    ("version", "status"), [("2", 200), ("9", 200), ("10", 503), ("3", 404), ("0", 422), ("latest", 422)]
)
async def test_a_version_may_be_named(
    versions: httpx.AsyncClient, bearer: Mapping[str, str], version: str, status: int
) -> None:
    answer = await versions.post(
        f"/predict?model=tiny&version={version}", files={"file": read("coffee.png")}, headers=bearer
    )
    described = await versions.get(f"/models/tiny/versions/{version}", headers=bearer)
    assert answer.status_code == status
    assert described.status_code == (200 if status == 503 else status)
    if status == 200:
        assert answer.json()["model"]["version"] == described.json()["version"] == version


async def test_the_built_in_model_is_what_it_says(
    efficientnet_client: httpx.AsyncClient, bearer: Mapping[str, str]
) -> None:
    model = (await efficientnet_client.get("/models/efficientnet-lite0", headers=bearer)).json()
    assert (model["source"], model["state"]) == ("builtin:efficientnet-lite0", "ready")
    assert (model["input_size"], model["label_count"]) == ([3, 224, 224], 1000)
    assert model["labels"][282] == "tiger cat"


async def test_an_unknown_model_is_404_and_named(client: httpx.AsyncClient, bearer: Mapping[str, str]) -> None:
    response = await client.get("/models/resnet50", headers=bearer)
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
    assert "resnet50" in response.json()["detail"]


async def test_a_name_that_is_too_long_is_422(client: httpx.AsyncClient, bearer: Mapping[str, str]) -> None:
    response = await client.get(f"/models/{'x' * 129}", headers=bearer)
    assert response.status_code == 422
    assert [error["field"] for error in response.json()["errors"]] == ["path.name"]


@pytest.mark.parametrize("path", ["/models", "/models/tiny", "/models/tiny/versions/1"])
async def test_only_who_may_predict_sees_them(client: httpx.AsyncClient, issuer: Issuer, path: str) -> None:
    unknown = await client.get(path)
    other = await client.get(path, headers=issuer.bearer(scope="profile"))
    assert (unknown.status_code, other.status_code) == (401, 403)
    assert {unknown.headers["content-type"], other.headers["content-type"]} == {"application/problem+json"}
