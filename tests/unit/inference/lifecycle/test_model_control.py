"""Models that administrators load and unload, over REST and over gRPC alike."""

import asyncio
import threading
from collections.abc import Mapping
from pathlib import Path

import grpc
import httpx
import pytest
from inference_service.errors import ModelNotLoaded
from inference_service.lifecycle.loading import Loader
from inference_service.lifecycle.model_control import ModelControl
from inference_service.lifecycle.registry import MODEL_NEED, ModelRegistry, ModelState
from inference_service.main import create_app
from inference_service.metrics import InferenceMetrics
from inference_service.model import Model, ModelUnavailable
from inference_service.oip import protocol_pb2 as pb
from inference_service.settings import InferenceSettings
from prometheus_client import CollectorRegistry
from servicekit.health import Readiness

from tests.asgi import running
from tests.issuer import Issuer
from tests.unit.inference.conftest import serving, until_ready
from tests.unit.inference.networks import Gate, tiny_model, tiny_source
from tests.unit.inference.oip.grpc_caller import calling, refused
from tests.unit.inference.oip.messages import INFER, RED, assert_error, infer_body

LOAD, UNLOAD = "/v2/repository/models/tiny/load", "/v2/repository/models/tiny/unload"


@pytest.fixture
def settings(settings: InferenceSettings) -> InferenceSettings:
    """Administrators may load and unload."""
    return settings.model_copy(update={"model_control": True})


@pytest.fixture
def administrator(issuer: Issuer) -> Mapping[str, str]:
    return issuer.bearer(scope="inference:admin inference:predict")


async def index(client: httpx.AsyncClient, headers: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Return name, state and reason of each model."""
    entries = (await client.post("/v2/repository/index", headers=headers)).json()
    return [(entry["name"], entry["state"], entry["reason"]) for entry in entries]


async def test_a_model_goes_and_comes_back(settings: InferenceSettings, administrator: Mapping[str, str]) -> None:
    async with serving(settings, tiny_source(), tiny_source(name="other")) as client:
        unloaded = await client.post(UNLOAD, json={"parameters": {"unload_dependents": False}}, headers=administrator)
        away = await index(client, administrator)
        refused = await client.post(INFER, json=infer_body(RED), headers=administrator)
        ready = await client.get("/readyz")
        loaded = await client.post(LOAD, headers=administrator)
        back = await index(client, administrator)
        answered = await client.post(INFER, json=infer_body(RED), headers=administrator)
    assert [(response.status_code, response.content) for response in (unloaded, loaded)] == [(200, b"")] * 2
    assert away == [("tiny", "UNAVAILABLE", "unloaded"), ("other", "READY", "")]
    assert_error(refused, 503, "unloaded")
    assert ready.status_code == 200  # it was asked for
    assert back == [("tiny", "READY", ""), ("other", "READY", "")]
    assert answered.status_code == 200


@pytest.mark.parametrize("version", ["", "1"])
async def test_a_model_that_was_unloaded_has_no_statistics_over_rest_and_grpc_alike(
    settings: InferenceSettings, issuer: Issuer, administrator: Mapping[str, str], version: str
) -> None:
    path = f"/v2/models/tiny/versions/{version}/stats" if version else "/v2/models/tiny/stats"
    asked = pb.ModelStatisticsRequest(name="tiny", version=version)
    async with calling(settings, issuer, tiny_source(), tiny_source(name="other")) as call:
        await call.http.post(UNLOAD, headers=administrator)
        assert_error(await call.http.get(path, headers=administrator), 503, "tiny: unloaded")
        await refused(call("ModelStatistics", asked), grpc.StatusCode.UNAVAILABLE, "tiny: unloaded")
        everything = await call("ModelStatistics", pb.ModelStatisticsRequest())
    assert [found.name for found in everything.model_stats] == ["other"]


async def test_who_has_begun_is_answered_by_the_model_that_goes(
    settings: InferenceSettings, administrator: Mapping[str, str]
) -> None:
    gate = Gate()
    async with serving(settings, tiny_source(gate)) as client:
        begun = asyncio.create_task(client.post(INFER, json=infer_body(RED), headers=administrator))
        assert await asyncio.to_thread(gate.entered.wait, 30)
        assert (await client.post(UNLOAD, headers=administrator)).status_code == 200
        gate.opened.set()
        assert (await begun).status_code == 200


async def test_a_model_that_fails_leaves_the_one_before_in_place(
    settings: InferenceSettings, administrator: Mapping[str, str]
) -> None:
    loads = 0

    def load() -> Model:
        nonlocal loads
        loads += 1
        if loads > 1:
            raise ModelUnavailable("the weights are gone")
        return tiny_model()

    async with serving(settings, tiny_source(load=load)) as client:
        failed = await client.post(LOAD, headers=administrator)
        answered = await client.post(INFER, json=infer_body(RED), headers=administrator)
        entries = await index(client, administrator)
    assert_error(failed, 400, "failed to load tiny: version 1: the weights are gone")
    assert answered.status_code == 200
    assert entries == [("tiny", "READY", "the weights are gone")]


async def test_models_yaml_is_read_again(
    settings: InferenceSettings, administrator: Mapping[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "models.yaml"
    model = "models:\n  - {name: first, source: 'builtin:efficientnet-lite0'}\n"
    file.write_text(model)
    async with running(create_app(settings.model_copy(update={"models_file": file}))) as client:
        await until_ready(client)
        file.write_text(model + "  - {name: tiny, source: 'builtin:efficientnet-lite0'}\n")
        loaded = await client.post(LOAD, headers=administrator)
        entries = await index(client, administrator)
        file.write_text("models: 5\n")
        broken = await client.post(LOAD, headers=administrator)
    assert loaded.status_code == 200
    assert entries == [("first", "READY", ""), ("tiny", "READY", "")]
    assert_error(broken, 400, "models")


async def test_a_load_goes_on_when_its_caller_has_left() -> None:
    """As in Triton: clients give up after some seconds, over gRPC at their deadline, and loading takes longer."""
    begun, goes_on = threading.Event(), threading.Event()

    def load() -> Model:
        begun.set()
        assert goes_on.wait(30)
        return tiny_model()

    source = tiny_source(load=load)
    models = ModelRegistry([source], Readiness(MODEL_NEED), InferenceMetrics(CollectorRegistry()), Loader(1))
    call = asyncio.create_task(ModelControl(models, lambda: [source], is_on=True).load("tiny"))
    assert await asyncio.to_thread(begun.wait, 30)
    call.cancel()
    goes_on.set()
    with pytest.raises(asyncio.CancelledError):
        await call
    async with asyncio.timeout(30):
        while models.get().state is ModelState.LOADING:  # noqa: ASYNC110 its state alone tells
            await asyncio.sleep(0.005)
    assert models.get().state is ModelState.READY


async def test_an_unload_waits_for_no_load_and_outlasts_those_that_were_asked_for_before_it() -> None:
    begun, goes_on, loads = threading.Event(), threading.Event(), 0

    def load() -> Model:
        nonlocal loads
        loads += 1
        if loads > 1:
            begun.set()
            assert goes_on.wait(30)
        return tiny_model()

    source = tiny_source(load=load)
    models = ModelRegistry([source], Readiness(MODEL_NEED), InferenceMetrics(CollectorRegistry()), Loader(1))
    control = ModelControl(models, lambda: [source], is_on=True)
    await control.load("tiny")
    running, waiting = (asyncio.create_task(control.load("tiny")) for _ in range(2))
    assert await asyncio.to_thread(begun.wait, 30)
    await asyncio.sleep(0)
    try:
        async with asyncio.timeout(10):
            await control.unload("tiny")
        assert models.get().model is None
    finally:
        goes_on.set()
    for call in (running, waiting):
        with pytest.raises(ModelNotLoaded, match="version 1: unloaded meanwhile"):
            await call
    assert (models.get().state, loads) == (ModelState.UNLOADED, 2)
    await control.load("tiny")
    assert models.get().state is ModelState.READY


async def test_a_load_that_fails_after_its_model_was_unloaded_is_no_failure_of_it() -> None:
    begun, goes_on = threading.Event(), threading.Event()

    def load() -> Model:
        begun.set()
        assert goes_on.wait(30)
        raise ModelUnavailable("the weights are gone")

    source, readiness = tiny_source(load=load), Readiness(MODEL_NEED)
    models = ModelRegistry([source], readiness, InferenceMetrics(CollectorRegistry()), Loader(1))
    loading = asyncio.create_task(models.load([source]))
    assert await asyncio.to_thread(begun.wait, 30)
    try:
        async with asyncio.timeout(10):
            await models.unload("tiny")
        assert MODEL_NEED in readiness.missing, "the others are loaded still"
    finally:
        goes_on.set()
    await loading
    assert models.get().state is ModelState.UNLOADED
    assert not readiness.missing


@pytest.mark.parametrize("action", ["load", "unload"])
async def test_what_is_not_known_is_refused(
    settings: InferenceSettings, administrator: Mapping[str, str], action: str
) -> None:
    path = f"/v2/repository/models/tiny/{action}"
    async with serving(settings, tiny_source()) as client:
        unknown = await client.post(path.replace("tiny", "other"), headers=administrator)
        parameter = await client.post(path, json={"parameters": {"config": "{}"}}, headers=administrator)
        malformed = await client.post(path, content=b"[", headers=administrator)
    assert_error(unknown, 404, "other")
    assert_error(parameter, 400, "'config' is not supported")
    assert_error(malformed, 400)


@pytest.mark.parametrize("path", [LOAD, UNLOAD])
async def test_only_administrators_may(settings: InferenceSettings, bearer: Mapping[str, str], path: str) -> None:
    async with serving(settings, tiny_source()) as client:
        assert_error(await client.post(path), 401)
        assert_error(await client.post(path, headers=bearer), 403, "inference:admin")


@pytest.mark.parametrize("path", [LOAD, UNLOAD])
async def test_it_is_off_by_default(settings: InferenceSettings, administrator: Mapping[str, str], path: str) -> None:
    async with serving(settings.model_copy(update={"model_control": False}), tiny_source()) as client:
        assert_error(await client.post(path, headers=administrator), 403, "INFERENCE_MODEL_CONTROL is off")
        assert await index(client, administrator) == [("tiny", "READY", "")]
