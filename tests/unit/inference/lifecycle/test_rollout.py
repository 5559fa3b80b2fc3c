"""Who is answered by a canary: a part of the callers, always the same, until it fails."""

from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from inference_service.lifecycle.loading import Loader
from inference_service.lifecycle.registry import ModelRegistry, ModelState
from inference_service.lifecycle.rollout import choose, percentile
from inference_service.metrics import InferenceMetrics
from inference_service.settings import InferenceSettings
from prometheus_client import CollectorRegistry
from servicekit.health import Readiness
from structlog.testing import capture_logs

from tests.issuer import Issuer
from tests.unit.inference.conftest import SCOPE, serving
from tests.unit.inference.networks import Failing, tiny_model, tiny_source
from tests.unit.inference.oip.messages import infer_body
from tests.unit.inference.test_predict import RED

SUBJECTS = [f"subject-{number}" for number in range(10_000)]
AMONG_FEW, AMONG_MANY = (
    next(subject for subject in SUBJECTS if (percentile("tiny", subject) < 50) is early) for early in (True, False)
)
"""One of the callers whom a canary with half of them answers, and one of the others."""


def models(weight: float) -> ModelRegistry:
    sources = [tiny_source(), tiny_source(version="2", weight=weight)]
    registry = ModelRegistry(sources, Readiness(), InferenceMetrics(CollectorRegistry()), Loader(1))
    for served in registry:
        served.model, served.state = tiny_model(), ModelState.READY
    return registry


def with_canary(registry: ModelRegistry) -> set[str]:
    return {subject for subject in SUBJECTS if choose(registry, subject).source.version == "2"}


@pytest.mark.parametrize("weight", [0, 0.5, 10, 50, 100])
def test_a_canary_answers_its_part_of_the_callers_and_always_the_same(weight: float) -> None:
    # Four standard deviations of 10 000 independent callers: at most 2 %.
    chosen = with_canary(models(weight))
    assert len(chosen) / len(SUBJECTS) * 100 == pytest.approx(weight, abs=4 * (weight * (100 - weight) / 10_000) ** 0.5)
    assert with_canary(models(weight)) == chosen


def test_a_canary_that_is_given_more_keeps_its_callers() -> None:
    assert with_canary(models(10)) < with_canary(models(20))


def test_each_model_has_an_order_of_callers_of_its_own() -> None:
    first = {subject for subject in SUBJECTS if percentile("tiny", subject) < 50}
    both = {subject for subject in first if percentile("other", subject) < 50}
    assert len(both) / len(first) == pytest.approx(0.5, abs=0.05)


def test_where_a_caller_stands_does_not_change_between_releases() -> None:
    assert percentile("tiny", "someone") == pytest.approx(55.98099966472492)


def test_a_version_that_is_named_answers_whoever_asks() -> None:
    registry = models(100)
    assert choose(registry, "someone", "tiny", "1").source.version == "1"
    assert choose(registry, "someone", version="2").source.version == "2"


def test_a_canary_that_is_not_loaded_answers_nobody() -> None:
    registry = models(100)
    registry.get(version="2").model = None
    assert with_canary(registry) == set()


@pytest.mark.parametrize(("subject", "version"), [(AMONG_FEW, "2"), (AMONG_MANY, "1")])
async def test_each_way_to_ask_has_the_same_answering_version(
    settings: InferenceSettings, issuer: Issuer, subject: str, version: str
) -> None:
    bearer = issuer.bearer(subject=subject, scope=SCOPE)
    async with serving(settings, tiny_source(), tiny_source(version="2", weight=50)) as client:

        async def answering(path: str, **body: Any) -> str:
            headers = {**bearer, "Accept": "application/json"}
            answer = (await client.post(path, headers=headers, **body)).raise_for_status().json()
            found: str = answer["model_version"] if "model_version" in answer else answer["model"]["version"]
            return found

        unsaid = [
            await answering("/predict", files={"file": RED}),
            await answering("/explain", files={"file": RED}),
            await answering("/v2/models/tiny/infer", json=infer_body(RED)),
        ]
        named = [
            await answering("/predict?version=1", files={"file": RED}),
            await answering("/explain?version=1", files={"file": RED}),
            await answering("/v2/models/tiny/versions/1/infer", json=infer_body(RED)),
        ]
        described = (await client.get("/models/tiny", headers=bearer)).json()
    assert unsaid == [version] * 3
    assert named == ["1"] * 3
    assert described["version"] == "1"
    assert [(found["version"], found["weight"]) for found in described["versions"]] == [("2", 50), ("1", None)]


async def ask(client: httpx.AsyncClient, bearer: Mapping[str, str]) -> tuple[int, str | None]:
    """Return the status, and the version that answered."""
    response = await client.post("/predict", files={"file": RED}, headers=bearer)
    return response.status_code, response.json().get("model", {}).get("version")


async def test_a_canary_that_fails_is_stopped_and_its_callers_get_stable_answers(
    settings: InferenceSettings, issuer: Issuer
) -> None:
    bearer = issuer.bearer(scope=f"{SCOPE} inference:admin")
    update = {"rollout_window": 4, "rollout_failure_share": 0.5, "model_control": True}
    sources = tiny_source(), tiny_source(Failing(), version="2", weight=100)
    with capture_logs() as logs:
        async with serving(settings.model_copy(update=update), *sources) as client:
            damaged = await client.post("/predict", files={"file": RED[:60]}, headers=bearer)
            answers = [await ask(client, bearer) for _ in range(6)]
            named = await client.post("/predict?version=2", files={"file": RED}, headers=bearer)
            described = (await client.get("/models/tiny", headers=bearer)).json()
            metrics = (await client.get("/metrics")).text
    assert damaged.status_code == 422  # the caller's fault does not count
    assert answers == [(500, None)] * 4 + [(200, "1")] * 2
    assert named.status_code == 500
    assert described["reason"] is None
    canary = described["versions"][0]
    assert (canary["weight"], canary["reason"]) == (0, "stopped: 4 of its last 4 computations failed")
    assert 'inference_rollout_stopped{model="tiny",version="2"} 1.0' in metrics
    assert len([entry for entry in logs if entry["event"] == "version_stopped"]) == 1
