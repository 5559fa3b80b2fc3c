"""How much memory of its GPUs a process takes, shown to Prometheus."""

import asyncio
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch

from inference_service.lifecycle.registry import ServedModel
from inference_service.metrics import InferenceMetrics

READ_SECONDS = 5.0


class GpuMemory(NamedTuple):
    """Bytes of one GPU: those of our tensors, those that torch holds for them, and all that it has."""

    allocated: int
    reserved: int
    limit: int


def read_gpu_memory(device: str) -> GpuMemory:
    """Return what torch's own books say; the GPU is not asked, and not waited for."""
    return GpuMemory(
        torch.cuda.memory_allocated(device),
        torch.cuda.memory_reserved(device),
        torch.cuda.get_device_properties(device).total_memory,
    )


async def follow_gpu_memory(
    models: Iterable[ServedModel],
    metrics: InferenceMetrics,
    *,
    interval_seconds: float = READ_SECONDS,
    read: Callable[[str], GpuMemory] = read_gpu_memory,
) -> None:
    """Show the memory of each GPU that `models` are on, for ever. Where there is none, nothing is shown."""
    while True:
        for device in {served.model.device for served in models if served.model and served.model.is_on_gpu}:
            memory = read(device)
            metrics.show_gpu_memory(device, allocated=memory.allocated, reserved=memory.reserved, limit=memory.limit)
        await asyncio.sleep(interval_seconds)
