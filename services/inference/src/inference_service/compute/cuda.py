"""Networks on a GPU: their kernels recorded once for each size of batch, and then started all at once."""

import threading
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

_WARM_UPS = 3
"""Runs before a recording, in which cuDNN and the allocator settle: as torch's documentation of CUDA graphs asks."""


_ENDING_CODES = frozenset({214, 220, 226, 700, 702, 710, 714, 715, 716, 717, 718, 719, 721, 810, 911})
"""Of errors after which a process gets nothing else from a GPU, by CUDA's `driver_types.h`: it "must be terminated and
relaunched". Memory that has failed (214) and links (220) are without that sentence there, and as lasting."""

_recording = threading.Lock()
"""torch records one graph at a time, whichever network it is of."""


class Recording(NamedTuple):
    """One size of batch: `replay` computes `logits` from `inputs`, in memory that stays where it is."""

    inputs: Tensor
    logits: Tensor
    replay: Callable[[], None]


def ends_process(error: BaseException) -> bool:
    """Tell whether a GPU is of no use any more to a process that got this error."""
    return isinstance(error, torch.AcceleratorError) and getattr(error, "error_code", None) in _ENDING_CODES


def record(network: nn.Module, inputs: Tensor) -> Recording:
    """Record a CUDA graph. Another thread may use the GPU meanwhile."""
    with torch.cuda.device(inputs.device):  # torch waits for the current one, and takes 500 MB of it with that
        before, stream = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(before)
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                network(inputs)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                logits = network(inputs)
        before.wait_stream(stream)
    return Recording(inputs, logits, graph.replay)


class RecordedNetwork(nn.Module):
    """Computes batches in the sizes that it was given, filled up where they are smaller.

    Threads that call it at once wait for each other: a recording has one place for its inputs.
    """

    def __init__(
        self,
        network: nn.Module,
        sizes: tuple[int, ...],
        *,
        record: Callable[[nn.Module, Tensor], Recording] = record,
    ) -> None:
        super().__init__()
        self.network = network
        self._sizes = sizes
        self._record = record
        self._recordings: dict[int, Recording] = {}
        self._replaying = threading.Lock()

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, [N, classes], of images, [N, 3, H, W] on the GPU."""
        rows = len(images)
        size = next((size for size in self._sizes if size >= rows), None)
        if size is None:
            logits: Tensor = self.network(images)
            return logits
        with self._replaying:
            recording = self._recordings.get(size)
            if recording is None:
                inputs = images.new_zeros(size, *images.shape[1:]).contiguous(memory_format=torch.channels_last)
                with _recording:
                    recording = self._recordings[size] = self._record(self.network, inputs)
            recording.inputs[:rows].copy_(images)
            recording.replay()
            return recording.logits[:rows].clone()
