"""What is traced on one thread is nothing to the others, which answer callers meanwhile."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from inference_service.compute.folding import fold_batch_norms
from inference_service.compute.quantization import calibrate, quantized
from inference_service.compute.traced_network import TracedNetwork
from inference_service.model import Model
from torch import Tensor, nn

from tests.unit.inference.networks import tiny_model


def deep(layers: int) -> nn.Module:
    """Return a network whose tracing takes its time."""
    torch.manual_seed(0)
    blocks = [nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU()) for _ in range(layers)]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()


@contextmanager
def served(model: Model) -> Iterator[None]:
    """Compute on another thread all the while, and fail where an answer is wrong or there is none."""
    images = torch.rand(2, 3, 8, 8)
    expected: Tensor = model.forward(images)
    is_over = threading.Event()
    has_begun = threading.Event()

    def compute() -> int:
        answers = 0
        while not is_over.is_set():
            assert model.forward(images).equal(expected)
            answers += 1
            has_begun.set()
        return answers

    with ThreadPoolExecutor(1) as model_thread:
        computing = model_thread.submit(compute)
        try:
            assert has_begun.wait(30)
            yield
        finally:
            is_over.set()
        assert computing.result() > 1


def fold() -> None:
    fold_batch_norms(deep(100))


def quantize() -> None:
    model = replace(tiny_model(deep(20)), digest="abc")
    quantized(model, calibrate(model, [torch.rand(4, 3, 8, 8)]))


def record() -> None:
    TracedNetwork(deep(100))(torch.rand(2, 3, 8, 8))


@pytest.mark.parametrize("trace", [fold, quantize, record])
def test_a_model_is_computed_while_another_is_traced(trace: Callable[[], None]) -> None:
    with served(tiny_model(deep(5))):
        trace()


def test_two_are_traced_at_once_and_leave_modules_as_they_were() -> None:
    before = nn.Module.__call__, nn.Module.__getattr__
    with ThreadPoolExecutor(4) as threads:
        for tracing in [threads.submit(fold) for _ in range(8)]:
            tracing.result()
    assert (nn.Module.__call__, nn.Module.__getattr__) == before
