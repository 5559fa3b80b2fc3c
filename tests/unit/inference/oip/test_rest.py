"""What the inference protocol tells of the server and its models, over REST."""

import asyncio
import json
import threading
from collections.abc import Mapping

import httpx
import pytest
from inference_service.main import create_app
from inference_service.model import Model, ModelUnavailable
from inference_service.settings import InferenceSettings
from servicekit.logs import configure_logs

from tests.asgi import running
from tests.issuer import Issuer
from tests.otlp import receiving
from tests.unit.inference.conftest import serving, until_ready
from tests.unit.inference.networks import tiny_model, tiny_source
from tests.unit.inference.oip.messages import BLUE, INFER, RED, assert_error, infer_body

MODEL = "/v2/models/tiny"
READ = [MODEL, f"{MODEL}/ready", f"{MODEL}/config", f"{MODEL}/stats"]


@pytest.mark.parametrize("path", ["/v2", "/v2/"])
async def test_the_server_names_its_extensions_to_everybody(client: httpx.AsyncClient, path: str) -> None:
    response = await client.get(path)
    assert response.status_code == 200
    assert response.json()["name"] == "pinhole"
    assert {"binary_tensor_data", "classification", "statistics"} < set(response.json()["extensions"])


async def test_a_server_is_live_before_it_is_ready(settings: InferenceSettings, bearer: Mapping[str, str]) -> None:
    opened = threading.Event()

    def load() -> Model:
        assert opened.wait(30)
        return tiny_model()

    async with running(create_app(settings, sources=[tiny_source(load=load)])) as client:
        live = await client.get("/v2/health/live")
        before = [await client.get("/v2/health/ready"), await client.get(f"{MODEL}/ready", headers=bearer)]
        metadata = await client.get(MODEL, headers=bearer)
        index = await client.post("/v2/repository/index", headers=bearer)
        only_ready = await client.post("/v2/repository/index", json={"ready": True}, headers=bearer)
        opened.set()
        await until_ready(client)
        after = [await client.get("/v2/health/ready"), await client.get(f"{MODEL}/ready", headers=bearer)]
    assert (live.status_code, live.json()) == (200, {"live": True})
    assert [response.status_code for response in before] == [400, 400]
    assert before[0].json() == {"ready": False}
    assert_error(metadata, 503, "loading")
    assert "retry-after" in metadata.headers
    assert index.json() == [{"name": "tiny", "version": "1", "state": "LOADING", "reason": ""}]
    assert only_ready.json() == []
    assert [response.status_code for response in after] == [200, 200]
    assert [response.json() for response in after] == [{"ready": True}, {"name": "tiny", "ready": True}]


async def test_probes_are_measured_but_neither_traced_nor_logged(
    settings: InferenceSettings,
    bearer: Mapping[str, str],
    capsys: pytest.CaptureFixture[str],
    restored_logging: None,
) -> None:
    configure_logs("inference", level="INFO", format="json")
    probes = ("/v2/health/live", "/v2/health/ready", f"{MODEL}/ready", f"{MODEL}/versions/1/ready/")
    with receiving() as receiver:
        async with serving(settings.model_copy(update={"otlp_endpoint": receiver.http_url}), tiny_source()) as client:
            for path in (*probes, MODEL):
                assert (await client.get(path, headers=bearer)).status_code == 200
            metrics = (await client.get("/metrics")).text
    assert {span.name for span in receiver.spans() if not span.parent_id} == {"GET /v2/models/{name}"}
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["route"] for line in lines if line["event"] == "request"] == ["/v2/models/{name}"]
    assert 'route="/v2/models/{name}/versions/{version}/ready"' in metrics


async def test_a_model_tells_how_it_is_called(settings: InferenceSettings, bearer: Mapping[str, str]) -> None:
    async with serving(settings, tiny_source(version="9"), tiny_source(version="10")) as client:
        newest = await client.get(MODEL, headers=bearer)
        one = await client.get(f"{MODEL}/versions/9", headers=bearer)
    for response in (newest, one):
        assert response.json() == {
            "name": "tiny",
            "versions": ["9", "10"],
            "platform": "pytorch",
            "inputs": [{"name": "image", "datatype": "BYTES", "shape": [-1, 1]}],
            "outputs": [
                {"name": "logits", "datatype": "FP32", "shape": [-1, 3]},
                {"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]},
            ],
        }


@pytest.mark.parametrize("path", [MODEL, f"{MODEL}/versions/1"])
async def test_a_model_tells_how_it_is_served(client: httpx.AsyncClient, bearer: Mapping[str, str], path: str) -> None:
    config = (await client.get(f"{path}/config", headers=bearer)).json()
    assert (config["name"], config["max_batch_size"]) == ("tiny", 64)
    assert config["input"] == [{"name": "image", "data_type": "TYPE_STRING", "format": "FORMAT_NONE", "dims": [1]}]
    assert config["dynamic_batching"]["preferred_batch_size"] == [8]
    assert config["parameters"]["source"] == {"string_value": "test:tiny"}


async def test_what_a_model_has_done_is_counted(settings: InferenceSettings, bearer: Mapping[str, str]) -> None:
    caching = settings.model_copy(update={"cache_max_bytes": 1_000_000})
    async with serving(caching, tiny_source(), tiny_source(name="other")) as client:
        await client.post(INFER, json=infer_body(RED, BLUE), headers=bearer)
        await client.post("/predict", files={"file": RED}, headers=bearer)
        await client.post(INFER, json=infer_body(RED[:60]), headers=bearer)
        everything = (await client.get("/v2/models/stats", headers=bearer)).json()["model_stats"]
        [found] = (await client.get(f"{MODEL}/stats", headers=bearer)).json()["model_stats"]
        [same] = (await client.get(f"{MODEL}/versions/1/stats", headers=bearer)).json()["model_stats"]
    assert [entry["name"] for entry in everything] == ["tiny", "other"]
    assert everything[0] == found == same
    counts = {name: duration["count"] for name, duration in found["inference_stats"].items()}
    assert counts == {
        "success": 2,
        "fail": 1,
        "queue": 2,
        "compute_input": 1,
        "compute_infer": 1,
        "compute_output": 1,
        "cache_hit": 1,
        "cache_miss": 3,
    }
    assert found["inference_count"] == 2
    assert found["execution_count"] == sum(batch["compute_infer"]["count"] for batch in found["batch_stats"])
    assert all(batch["compute_infer"]["ns"] > 0 for batch in found["batch_stats"])
    assert found["last_inference"] > 1_700_000_000_000
    assert everything[1]["inference_count"] == 0


async def test_the_index_tells_why_a_model_is_not_served(
    settings: InferenceSettings, bearer: Mapping[str, str]
) -> None:
    def fail() -> Model:
        raise ModelUnavailable("no weights")

    async with running(create_app(settings, sources=[tiny_source(), tiny_source(name="bad", load=fail)])) as client:
        async with asyncio.timeout(30):
            while "no weights" not in (await client.get("/readyz")).text:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        index = (await client.post("/v2/repository/index", json={}, headers=bearer)).json()
        statistics = (await client.get("/v2/models/stats", headers=bearer)).json()["model_stats"]
    assert index == [
        {"name": "tiny", "version": "1", "state": "READY", "reason": ""},
        {"name": "bad", "version": "1", "state": "UNAVAILABLE", "reason": "no weights"},
    ]
    assert [entry["name"] for entry in statistics] == ["tiny"]


@pytest.mark.parametrize("body", [b"[", b"[]", b'{"ready": 1}'])
async def test_an_index_of_something_else_is_refused(
    client: httpx.AsyncClient, bearer: Mapping[str, str], body: bytes
) -> None:
    assert_error(await client.post("/v2/repository/index", content=body, headers=bearer), 400)


async def test_a_long_body_for_the_index_is_refused(client: httpx.AsyncClient, bearer: Mapping[str, str]) -> None:
    assert_error(await client.post("/v2/repository/index", content=bytes(70_000), headers=bearer), 413)


@pytest.mark.parametrize("path", [*READ, f"{MODEL}/versions/1", "/v2/models/stats"])
async def test_a_token_with_a_scope_is_needed(client: httpx.AsyncClient, issuer: Issuer, path: str) -> None:
    unknown = await client.get(path)
    assert_error(unknown, 401)
    assert unknown.headers["www-authenticate"] == "Bearer"
    assert_error(await client.get(path, headers=issuer.bearer(scope="profile")), 403, "inference:predict")


async def test_the_index_needs_a_token_with_a_scope(client: httpx.AsyncClient, issuer: Issuer) -> None:
    assert_error(await client.post("/v2/repository/index"), 401)
    assert_error(await client.post("/v2/repository/index", headers=issuer.bearer(scope="profile")), 403)


@pytest.mark.parametrize("path", [path.replace("tiny", "other") for path in READ] + [f"{MODEL}/versions/2"])
async def test_an_unknown_model_is_not_found(client: httpx.AsyncClient, bearer: Mapping[str, str], path: str) -> None:
    assert_error(await client.get(path, headers=bearer), 404)


@pytest.mark.parametrize("version", ["0", "one", "-1"])
async def test_a_version_that_is_no_number_is_refused(
    client: httpx.AsyncClient, bearer: Mapping[str, str], version: str
) -> None:
    assert_error(await client.get(f"{MODEL}/versions/{version}", headers=bearer), 400, "version")


async def test_errors_around_the_paths_are_in_the_same_words(
    client: httpx.AsyncClient, bearer: Mapping[str, str]
) -> None:
    assert_error(await client.get("/v2/nothing"), 404)
    wrong_method = await client.delete(MODEL, headers=bearer)
    assert_error(wrong_method, 405)
    assert wrong_method.headers["allow"] == "GET, HEAD"
    elsewhere = await client.get("/v20")
    assert elsewhere.headers["content-type"] == "application/problem+json"
