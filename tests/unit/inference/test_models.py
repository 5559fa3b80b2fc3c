"""`GET /models`: what is served, for those who may predict."""

from collections.abc import Mapping

import httpx
import pytest

from tests.issuer import Issuer
from tests.unit.inference.networks import LABELS

SUMMARY = {
    "name": "tiny",
    "version": "1",
    "state": "ready",
    "reason": None,
    "source": "test:tiny",
    "device": "cpu",
    "dtype": "float32",
    "input_size": [3, 8, 8],
    "label_count": 3,
}


@pytest.mark.parametrize("path", ["/models", "/models/"])
async def test_the_models_are_listed(client: httpx.AsyncClient, bearer: Mapping[str, str], path: str) -> None:
    response = await client.get(path, headers=bearer)
    assert (response.status_code, response.json()) == (200, [SUMMARY])


async def test_one_model_has_its_labels(client: httpx.AsyncClient, bearer: Mapping[str, str]) -> None:
    response = await client.get("/models/tiny", headers=bearer)
    assert (response.status_code, response.json()) == (200, {**SUMMARY, "labels": list(LABELS)})


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


@pytest.mark.parametrize("path", ["/models", "/models/tiny"])
async def test_only_who_may_predict_sees_them(client: httpx.AsyncClient, issuer: Issuer, path: str) -> None:
    unknown = await client.get(path)
    other = await client.get(path, headers=issuer.bearer(scope="profile"))
    assert (unknown.status_code, other.status_code) == (401, 403)
    assert {unknown.headers["content-type"], other.headers["content-type"]} == {"application/problem+json"}
