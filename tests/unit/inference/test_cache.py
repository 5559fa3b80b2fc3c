"""Answers that were computed before, in memory and in a real Redis."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import redis
import torch
from inference_service.cache import REDIS_PREFIX, LogitsCache, MemoryStore, cache_key
from inference_service.metrics import InferenceMetrics
from inference_service.model import Model
from inference_service.settings import InferenceSettings
from PIL import Image
from prometheus_client import CollectorRegistry
from pydantic import SecretStr
from structlog.testing import capture_logs

from tests.issuer import Issuer
from tests.redis_server import serve_redis
from tests.unit.inference.conftest import serving
from tests.unit.inference.networks import Gate, tiny_model, tiny_source
from tests.unit.inference.pictures import encoded

RED = encoded(Image.new("RGB", (20, 20), (250, 10, 5)), "PNG")
BLUE = encoded(Image.new("RGB", (20, 20), (5, 10, 250)), "PNG")
ENTRY_BYTES = 256 + 10


def store(*, max_bytes: int = 10_000, ttl_seconds: float = 60) -> tuple[MemoryStore, CollectorRegistry]:
    registry = CollectorRegistry()
    return MemoryStore(max_bytes=max_bytes, ttl_seconds=ttl_seconds, metrics=InferenceMetrics(registry)), registry


# In memory


async def test_what_was_not_used_for_longest_makes_room() -> None:
    values, registry = store(max_bytes=2 * ENTRY_BYTES)
    await values.put("a", b"0123456789")
    await values.put("b", b"0123456789")
    assert await values.get("a") == b"0123456789"
    await values.put("c", b"0123456789")
    assert [await values.get(key) is not None for key in "abc"] == [True, False, True]
    assert registry.get_sample_value("inference_cache_bytes") == 2 * ENTRY_BYTES


async def test_a_value_that_is_put_again_is_counted_once_and_one_without_room_is_not_kept() -> None:
    values, registry = store(max_bytes=2 * ENTRY_BYTES)
    for _ in range(3):
        await values.put("a", b"0123456789")
    assert registry.get_sample_value("inference_cache_bytes") == ENTRY_BYTES
    await values.put("b", bytes(10_000))
    assert await values.get("b") is None


async def test_a_value_is_kept_for_its_time() -> None:
    values, registry = store(ttl_seconds=1e-9)
    await values.put("a", b"0123456789")
    assert await values.get("a") is None
    assert registry.get_sample_value("inference_cache_bytes") == 0


async def test_logits_come_back_as_they_were() -> None:
    values, _ = store()
    cache = LogitsCache(values)
    logits = torch.tensor([0.1, -7.0, 1e-9])
    await cache.put("a", logits)
    found = await cache.get("a", 3)
    assert found is not None
    assert found.dtype == torch.float32
    assert torch.equal(found, logits)


@pytest.mark.parametrize("value", [b'{"not": "ours"}', b"", bytes(16), bytes(8)])
async def test_what_has_not_the_size_of_the_logits_is_not_taken(value: bytes) -> None:
    values, _ = store()
    await values.put("a", value)
    with capture_logs() as logged:
        assert await LogitsCache(values).get("a", 3) is None
    assert [entry["event"] for entry in logged] == ["cache_holds_something_else"]


async def test_the_key_tells_all_that_the_answer_depends_on_apart() -> None:
    large = bytes(1_000_000)
    keys = [
        await cache_key(data, *parameters)
        for data in (RED, BLUE, large, large + b"\0")
        for parameters in (("a", "b"), ("ab", ""), ("a", "b", "5"), ("b", "a"))
    ]
    assert len(set(keys)) == len(keys)
    assert await cache_key(large, "a", "b") == keys[8]


# Over HTTP


@asynccontextmanager
async def caching(settings: InferenceSettings, redis_url: str | None = None) -> AsyncIterator[httpx.AsyncClient]:
    update = {"cache_max_bytes": 1_000_000, "cache_redis_url": redis_url and SecretStr(redis_url)}
    async with serving(settings.model_copy(update=update), tiny_source(), tiny_source(name="other")) as client:
        yield client


async def ask(client: httpx.AsyncClient, bearer: Mapping[str, str], data: bytes = RED, query: str = "") -> str:
    """Return what the answer says of the cache."""
    response = await client.post(f"/predict{query}", files={"file": data}, headers=bearer)
    assert response.status_code == 200
    assert response.json()["label"] == ("red" if data is RED else "blue")
    return response.headers["x-cache"]


async def test_the_same_picture_is_computed_once(settings: InferenceSettings, bearer: Mapping[str, str]) -> None:
    async with caching(settings) as client:
        assert [await ask(client, bearer) for _ in range(3)] == ["miss", "hit", "hit"]
        assert await ask(client, bearer, BLUE) == "miss"
        assert await ask(client, bearer, query="?top_k=1") == "hit"
        assert await ask(client, bearer, query="?model=other") == "miss"
        metrics = (await client.get("/metrics")).text
    assert 'inference_cache_requests_total{outcome="hit"} 3.0' in metrics
    assert "inference_batch_size_sum 3.0" in metrics


CHANGES: Mapping[str, Callable[[Model], Model]] = {
    "nothing": lambda model: model,
    "its preprocessing": lambda m: replace(m, preprocessing=replace(m.preprocessing, mean=(1.0, 0.0, 0.0))),
    "how it is decoded": lambda m: replace(m, preprocessing=replace(m.preprocessing, scaled_decoding=True)),
    "its dtype": lambda model: replace(model, dtype=torch.bfloat16),
    "its architecture": lambda model: replace(model, architecture="resnet18"),
    "its calibration": lambda model: replace(model, calibration="abc"),
    "its weights": lambda model: replace(model, digest="abc"),
}


@pytest.mark.parametrize("changed", CHANGES)
async def test_a_model_that_is_loaded_with_a_change_is_asked_anew(
    settings: InferenceSettings, issuer: Issuer, changed: str
) -> None:
    both = issuer.bearer(scope="inference:admin inference:predict")
    models = iter([tiny_model(), CHANGES[changed](tiny_model())])
    controlled = settings.model_copy(update={"cache_max_bytes": 1_000_000, "model_control": True})
    async with serving(controlled, tiny_source(load=lambda: next(models))) as client:
        assert [await ask(client, both) for _ in range(2)] == ["miss", "hit"]
        assert (await client.post("/v2/repository/models/tiny/load", headers=both)).status_code == 200
        assert await ask(client, both) == ("hit" if changed == "nothing" else "miss")


def test_processes_that_are_told_the_same_share_their_answers(tmp_path: Path) -> None:
    models_file = tmp_path / "models.yaml"
    program = (
        "import pathlib, sys\n"
        "from inference_service.sources.kinds import read_sources\n"
        "[source] = read_sources(pathlib.Path(sys.argv[1]), pathlib.Path('none'))\n"
        "print(source.load().identity)"
    )

    def identity(hash_seed: str, **entry: object) -> str:
        models_file.write_text(json.dumps({"models": [{"name": "a", "source": "builtin:efficientnet-lite0", **entry}]}))
        command = [sys.executable, "-c", program, str(models_file)]
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout

    first = identity("1", weight=None)
    assert identity("2", scaled_decoding=False) == first
    assert identity("1", scaled_decoding=True) != first


async def test_without_a_cache_the_answer_says_so(client: httpx.AsyncClient, bearer: Mapping[str, str]) -> None:
    assert [await ask(client, bearer) for _ in range(2)] == ["off", "off"]


async def test_a_picture_that_cannot_be_decoded_is_not_kept(
    settings: InferenceSettings, bearer: Mapping[str, str]
) -> None:
    async with caching(settings) as client:
        for _ in range(2):
            assert (await client.post("/predict", files={"file": RED[:60]}, headers=bearer)).status_code == 422
        assert "inference_cache_bytes 0.0" in (await client.get("/metrics")).text


async def test_a_hundred_equal_posts_at_once_are_one_computation_though_the_first_leaves(
    settings: InferenceSettings, bearer: Mapping[str, str]
) -> None:
    gate = Gate()
    caching_settings = settings.model_copy(update={"cache_max_bytes": 1_000_000})
    async with serving(caching_settings, tiny_source(load=lambda: tiny_model(gate))) as client:
        first = asyncio.create_task(ask(client, bearer))
        assert await asyncio.to_thread(gate.entered.wait, 30)
        others = [asyncio.create_task(ask(client, bearer)) for _ in range(99)]
        async with asyncio.timeout(30):
            while "inference_requests_in_flight 100.0" not in (await client.get("/metrics")).text:  # noqa: ASYNC110 nothing else tells
                await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait([first])
        gate.opened.set()
        assert await asyncio.gather(*others) == ["shared"] * 99
        assert await ask(client, bearer) == "hit"
    assert gate.computed == 2  # the warm-up, and one


# In Redis


async def test_replicas_share_redis_and_its_end_costs_hits_only(
    settings: InferenceSettings, bearer: Mapping[str, str], tmp_path: Path
) -> None:
    with serve_redis(tmp_path) as (url, server):
        async with caching(settings, url) as one, caching(settings, url) as other:
            assert [await ask(one, bearer), await ask(one, bearer), await ask(other, bearer)] == ["miss", "hit", "hit"]
            with redis.Redis.from_url(url) as client:
                [key] = client.keys(f"{REDIS_PREFIX}*")
                assert 3_500_000 < client.pttl(key) <= 3_600_000
                client.set(key, b"something else")
            with capture_logs():
                assert [await ask(one, bearer), await ask(one, bearer)] == ["miss", "hit"]
            server.kill()
            server.wait(10)
            with capture_logs() as logged:
                assert [await ask(one, bearer) for _ in range(3)] == ["miss"] * 3
            assert "inference_cache_failures_total 1.0" in (await one.get("/metrics")).text
    assert [entry["event"] for entry in logged].count("cache_is_away") == 1


async def test_a_redis_that_takes_no_more_still_gives_what_it_has(
    settings: InferenceSettings, bearer: Mapping[str, str], tmp_path: Path
) -> None:
    with serve_redis(tmp_path) as (url, _):
        async with caching(settings, url) as client:
            assert await ask(client, bearer) == "miss"
            with redis.Redis.from_url(url) as direct:
                direct.config_set("maxmemory", 1)  # by default Redis then drops nothing, and refuses to grow
            with capture_logs() as logged:
                assert [await ask(client, bearer, BLUE), await ask(client, bearer)] == ["miss", "hit"]
    assert "cache_takes_nothing" in {entry["event"] for entry in logged}


async def test_a_redis_that_was_never_there_costs_hits_only(
    settings: InferenceSettings, bearer: Mapping[str, str], tmp_path: Path
) -> None:
    with capture_logs():
        async with caching(settings, f"unix://{tmp_path}/none.sock") as client:
            assert [await ask(client, bearer) for _ in range(2)] == ["miss", "miss"]
