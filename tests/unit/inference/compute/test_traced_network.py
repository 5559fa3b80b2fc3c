"""Networks without their Python: what they compute, what they hold, and which are left as they are."""

import contextlib
import sys
import threading
import time
import warnings
from pathlib import Path

import pytest
import torch
from inference_service.compute.traced_network import TracedNetwork
from structlog.testing import capture_logs
from torch import Tensor, nn

LAYERS = 100
WAIT_SECONDS = 0.1


class Counting(nn.Module):
    """Convolves, and counts how often its Python ran."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 5, 3)
        self.calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        convolved: Tensor = self.convolution(images)
        return convolved.relu().mean((2, 3))


class Deciding(Counting):
    """Looks at the values of a batch."""

    def forward(self, images: Tensor) -> Tensor:
        found = super().forward(images)
        return -found if images.sum() < 0 else found


class Sized(Counting):
    """Has the size of the batch in a number that a recording keeps."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + len(images.tolist())


def images(rows: int) -> Tensor:
    return torch.rand(rows, 3, 8, 8).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_what_was_recorded_is_computed_for_batches_of_all_sizes_without_python(dtype: torch.dtype) -> None:
    network = Counting().eval().to(dtype).to(memory_format=torch.channels_last)
    traced = TracedNetwork(network)
    traced(images(2).to(dtype))
    calls = network.calls
    for rows in (1, 2, 3, 8):
        batch = images(rows).to(dtype)
        found = traced(batch)
        assert network.calls == calls
        assert torch.equal(found, Counting.forward(network, batch))
        calls = network.calls


@pytest.mark.parametrize("kind", [Deciding, Sized])
@torch.inference_mode()
def test_a_network_that_decides_by_what_it_is_given_is_computed_as_it_is(kind: type[Counting]) -> None:
    network = kind().eval()
    with capture_logs() as logs:
        traced = TracedNetwork(network)
        traced(images(1))
    assert [entry["event"] for entry in logs] == ["network_not_traced"]
    for batch in (images(4), -images(4)):
        calls = network.calls
        found = traced(batch)
        assert network.calls == calls + 1
        assert torch.equal(found, network(batch))


@torch.inference_mode()
def test_a_decision_is_seen_also_where_another_thread_takes_its_warnings_back_meanwhile() -> None:
    class Meanwhile(Deciding):
        def forward(self, images: Tensor) -> Tensor:
            others.close()
            return super().forward(images)

    with warnings.catch_warnings(), contextlib.ExitStack() as others:
        warnings.simplefilter("ignore")  # as in a process of its own, where these tests let warnings be errors
        traced = TracedNetwork(Meanwhile().eval())
        others.enter_context(warnings.catch_warnings())
        batch = -images(1)
        assert torch.equal(traced(batch), traced.network(batch))


@torch.inference_mode()
def test_the_weights_are_there_once_and_those_that_are_loaded_are_those_that_compute(tmp_path: Path) -> None:
    traced = TracedNetwork(Counting().eval())
    before = traced(images(1))
    weights = {name: torch.zeros_like(tensor) for name, tensor in traced.state_dict().items()}
    assert len(weights) == 2
    torch.save(weights, tmp_path / "weights.pt")
    loaded = torch.load(tmp_path / "weights.pt", mmap=True, weights_only=True)
    traced.load_state_dict(loaded, assign=True)
    assert before.any()
    assert not traced(images(1)).any()
    loaded["network.convolution.bias"] += 1  # the very memory that was mapped, with no copy
    assert torch.equal(traced(images(1)), torch.ones(1, 5))


def test_python_is_not_waited_for_between_operators() -> None:
    """A thread that is busy keeps Python's lock for `WAIT_SECONDS` when another wants it."""
    network = TracedNetwork(nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1) for _ in range(LAYERS))).eval())
    batch = images(1)
    is_done = threading.Event()

    def compute() -> None:
        with torch.inference_mode():
            network(batch)
        is_done.set()

    with torch.inference_mode():
        network(batch)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(WAIT_SECONDS)
    try:
        threading.Thread(target=compute).start()
        started = time.monotonic()
        while not is_done.is_set():
            pass
        assert time.monotonic() - started < LAYERS * WAIT_SECONDS / 2
    finally:
        sys.setswitchinterval(interval)
