"""A thread that stands still is told from one that is busy."""

import asyncio
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from inference_service.heartbeat import MOST_STALLS, Heartbeat
from inference_service.main import create_app
from inference_service.settings import InferenceSettings
from torch import Tensor, nn

from tests.asgi import running
from tests.unit.inference.conftest import serving
from tests.unit.inference.networks import Gate, is_warm_up, tiny_model, tiny_source
from tests.unit.inference.test_predict import RED

STALL_SECONDS = 0.25


class Spinning(nn.Module):
    """Uses the CPU for some time, but for the warm-up."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    def forward(self, images: Tensor) -> Tensor:
        ends_at = time.monotonic() + (0.0 if is_warm_up(images) else self._seconds)
        while time.monotonic() < ends_at:
            images.sort()
        return images.mean((2, 3))


class Failing(nn.Module):
    """Raises what it is given, but for the warm-up."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def forward(self, images: Tensor) -> Tensor:
        if not is_warm_up(images):
            raise self._error
        return images.mean((2, 3))


def of_cuda(code: int, message: str) -> Exception:
    """Return an error as torch raises it for one of CUDA's codes."""
    error = torch.AcceleratorError(f"CUDA error: {message}\nSearch for it in CUDA's documentation")
    setattr(error, "error_code", code)  # noqa: B010 torch declares none, and sets it
    return error


def watched(heartbeat: Heartbeat, seconds: float, spin: bool) -> list[str | None]:
    """Return what is said of a batch of so many seconds, all along."""
    ended = threading.Event()

    def batch() -> None:
        with heartbeat.batch():
            ends_at = time.monotonic() + seconds
            while spin and time.monotonic() < ends_at:
                sum(range(1000))
            ended.wait(0 if spin else seconds)

    thread = threading.Thread(target=batch)
    thread.start()
    said = []
    while thread.is_alive():
        said.append(heartbeat.stalled())
        thread.join(0.01)
    said.append(heartbeat.stalled())
    return said


def test_a_thread_without_a_batch_is_not_stuck() -> None:
    assert Heartbeat(1e-9).stalled() is None


def test_a_batch_that_stands_still_is_stuck_until_it_ends() -> None:
    said = watched(Heartbeat(STALL_SECONDS), 5 * STALL_SECONDS, spin=False)
    assert said[0] is None
    assert "stood still" in (said[-2] or "")
    assert said[-1] is None


def test_a_long_batch_that_uses_the_cpu_is_not_stuck() -> None:
    assert set(watched(Heartbeat(STALL_SECONDS), 4 * STALL_SECONDS, spin=True)) == {None}


def test_a_batch_that_never_ends_is_stuck_however_busy_it_is() -> None:
    heartbeat = Heartbeat(STALL_SECONDS)
    said = watched(heartbeat, (MOST_STALLS + 3) * STALL_SECONDS, spin=True)
    assert "has not ended" in (said[-2] or "")


async def test_a_wedged_model_thread_fails_the_probe_and_a_full_queue_does_not(
    settings: InferenceSettings, bearer: Mapping[str, str]
) -> None:
    gate = Gate()
    update = {"model_stall_seconds": 0.5, "max_batch_size": 1, "max_queue_size": 1}
    async with serving(settings.model_copy(update=update), tiny_source(load=lambda: tiny_model(gate))) as client:
        running = asyncio.create_task(client.post("/predict", files={"file": RED}, headers=bearer))
        assert await asyncio.to_thread(gate.entered.wait, 30)
        waiting = asyncio.create_task(client.post("/predict", files={"file": RED}, headers=bearer))
        async with asyncio.timeout(30):
            while "inference_queue_size 1.0" not in (await client.get("/metrics")).text:  # noqa: ASYNC110 it alone tells
                await asyncio.sleep(0)
            refused = await client.post("/predict", files={"file": RED}, headers=bearer)
            full = await client.get("/livez")
            while (stuck := await client.get("/livez")).status_code == 200:  # noqa: ASYNC110 its probe alone tells
                await asyncio.sleep(0.01)
        gate.opened.set()
        await asyncio.gather(running, waiting)
        again = await client.get("/livez")
    assert refused.status_code == 503
    assert (full.status_code, stuck.status_code, again.status_code) == (200, 503, 200)
    assert stuck.headers["content-type"] == "application/problem+json"
    assert "stood still" in stuck.json()["detail"]


async def test_a_long_batch_does_not_fail_the_probe(settings: InferenceSettings, bearer: Mapping[str, str]) -> None:
    slow = settings.model_copy(update={"model_stall_seconds": 1.0})
    async with serving(slow, tiny_source(Spinning(seconds=2.0))) as client:
        asking = asyncio.create_task(client.post("/predict", files={"file": RED}, headers=bearer))
        seen = set()
        while not asking.done():
            seen.add((await client.get("/livez")).status_code)
            await asyncio.sleep(0.01)
        assert asking.result().status_code == 200
    assert seen == {200}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_torch_tells_the_codes_of_cuda_with_its_errors() -> None:
    with pytest.raises(torch.AcceleratorError) as caught:
        torch._C._cuda_synchronize()
    assert vars(caught.value)["error_code"] > 0


@pytest.mark.parametrize("code", [214, 700, 710, 719])
async def test_a_gpu_that_is_lost_fails_the_probe_for_ever(
    settings: InferenceSettings, bearer: Mapping[str, str], caplog: pytest.LogCaptureFixture, code: int
) -> None:
    async with serving(settings, tiny_source(Failing(of_cuda(code, "an illegal memory access")))) as client:
        before = await client.get("/livez")
        answers = [await client.post("/predict", files={"file": RED}, headers=bearer) for _ in range(2)]
        lost, of_protocol = await client.get("/livez"), await client.get("/v2/health/live")
    assert [answer.status_code for answer in answers] == [500, 500]
    assert (before.status_code, lost.status_code, of_protocol.status_code) == (200, 503, 400)
    assert lost.json()["detail"].endswith("until this process is started anew: CUDA error: an illegal memory access")
    assert sum("gpu_lost" in record.getMessage() for record in caplog.records) == 1


class LostAtStart(nn.Module):
    """Loses its GPU in the warm-up."""

    def forward(self, _images: Tensor) -> Tensor:
        raise of_cuda(700, "an illegal memory access")


async def test_a_gpu_that_is_lost_while_a_model_is_loaded_fails_the_probe(
    settings: InferenceSettings, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(create_app(settings, sources=[tiny_source(LostAtStart())])) as client, asyncio.timeout(30):
        while (lost := await client.get("/livez")).status_code == 200:  # noqa: ASYNC110 its probe alone tells
            await asyncio.sleep(0.01)
    assert lost.json()["detail"].endswith("until this process is started anew: CUDA error: an illegal memory access")
    assert sum("gpu_lost" in record.getMessage() for record in caplog.records) == 1


class LostInSearch(nn.Module):
    """Loses its GPU in a mode that is tried while it answers in another."""

    def forward(self, images: Tensor) -> Tensor:
        if images.is_contiguous(memory_format=torch.channels_last):
            raise of_cuda(700, "an illegal memory access")
        return images.mean((2, 3))


async def test_a_gpu_that_is_lost_in_the_search_for_a_mode_fails_the_probe(
    settings: InferenceSettings, tmp_path: Path
) -> None:
    searching = settings.model_copy(update={"mode": "auto", "modes_dir": tmp_path, "mode_search_seconds": 50.0})
    async with running(create_app(searching, sources=[tiny_source(LostInSearch())])) as client, asyncio.timeout(60):
        while (lost := await client.get("/livez")).status_code == 200:  # noqa: ASYNC110 its probe alone tells
            await asyncio.sleep(0.01)
    assert lost.json()["detail"].endswith("until this process is started anew: CUDA error: an illegal memory access")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        of_cuda(2, "out of memory"),
        of_cuda(900, "operation not permitted when stream is capturing"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
    ],
    ids=lambda error: str(error)[:20],
)
async def test_a_batch_that_fails_without_harm_to_the_gpu_does_not_fail_the_probe(
    settings: InferenceSettings, bearer: Mapping[str, str], error: Exception
) -> None:
    async with serving(settings, tiny_source(Failing(error))) as client:
        answer = await client.post("/predict", files={"file": RED}, headers=bearer)
        live = await client.get("/livez")
    assert (answer.status_code, live.status_code) == (500, 200)
