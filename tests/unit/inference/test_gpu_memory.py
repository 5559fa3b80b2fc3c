"""The memory of GPUs, as far as that can be shown without one."""

import asyncio
from dataclasses import replace

from inference_service.gpu_memory import GpuMemory, follow_gpu_memory
from inference_service.lifecycle.registry import ServedModel
from inference_service.metrics import InferenceMetrics
from prometheus_client import CollectorRegistry
from servicekit.background import running

from tests.eventually import eventually
from tests.unit.inference.networks import tiny_model, tiny_source


class Gpus:
    """Answers with numbers that grow, and notes who is asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, device: str) -> GpuMemory:
        self.asked.append(device)
        return GpuMemory(allocated=len(self.asked), reserved=1000, limit=8000)


def served(device: str) -> ServedModel:
    served = ServedModel(tiny_source())
    served.model = replace(tiny_model(), device=device)
    return served


async def test_each_gpu_that_models_are_on_is_shown_again_and_again() -> None:
    models, gpus, registry = [served("cuda:0"), served("cuda:0"), served("cpu")], Gpus(), CollectorRegistry()

    async def is_read_twice() -> bool:
        return len(gpus.asked) > 1

    async with running(
        follow_gpu_memory(models, InferenceMetrics(registry), interval_seconds=0.01, read=gpus), "gpu memory"
    ):
        await eventually(is_read_twice)
    assert set(gpus.asked) == {"cuda:0"}
    labels = {"device": "cuda:0"}
    allocated = registry.get_sample_value("inference_gpu_memory_bytes", {**labels, "state": "allocated"})
    assert allocated == len(gpus.asked)
    assert registry.get_sample_value("inference_gpu_memory_bytes", {**labels, "state": "reserved"}) == 1000
    assert registry.get_sample_value("inference_gpu_memory_limit_bytes", labels) == 8000


async def test_without_a_gpu_nothing_is_asked_or_shown() -> None:
    gpus, registry = Gpus(), CollectorRegistry()
    unloaded = ServedModel(tiny_source())
    work = follow_gpu_memory([served("cpu"), unloaded], InferenceMetrics(registry), interval_seconds=0, read=gpus)
    async with running(work, "gpu memory"):
        for _ in range(3):
            await asyncio.sleep(0)
    assert gpus.asked == []
    assert not [family.samples for family in registry.collect() if "gpu" in family.name and family.samples]
