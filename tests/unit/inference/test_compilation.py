"""Networks compiled for this machine. They need a C++ compiler, as `tests/install-requisites` has it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from inference_service.compilation import compile_network, missing_compiler
from inference_service.mode_search import ModeSearch
from inference_service.model import Model, ModelUnavailable
from inference_service.modes import Mode
from torch import Tensor, nn

from tests.unit.inference.networks import tiny_model


def convolutional() -> Model:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    return replace(tiny_model(nn.Sequential(*layers).eval()), digest="abc")


def search(folder: Path) -> ModeSearch:
    return ModeSearch("compile", budget_seconds=0, folder=folder, max_batch_size=4)


@pytest.mark.timeout(600)
def test_a_compiled_network_says_the_same_for_every_batch_and_is_kept(tmp_path: Path) -> None:
    assert missing_compiler() is None, "install g++: see tests/install-requisites"
    expected = convolutional()
    compiled = search(tmp_path).settle(convolutional(), None)
    assert (compiled.mode, compiled.dtype_name) == (Mode.COMPILE, "float32")
    [library] = tmp_path.iterdir()
    written = library.stat().st_mtime_ns
    for rows in (1, 2, 3, 4):
        images = torch.rand(rows, 3, 8, 8)
        assert torch.allclose(compiled.forward(images), expected.forward(images), atol=1e-5)
    again = search(tmp_path).settle(convolutional(), None)
    assert torch.allclose(again.forward(images), expected.forward(images), atol=1e-5)
    assert library.stat().st_mtime_ns == written


@pytest.mark.timeout(300)
def test_a_compilation_that_takes_too_long_is_ended_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="not compiled within 0 s"):
        compile_network(convolutional(), tmp_path / "library.pt2", max_batch_size=4, seconds=0.1)
    assert not list(tmp_path.iterdir())


def test_a_network_that_cannot_be_compiled_says_why(tmp_path: Path) -> None:
    class Branching(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.mean((2, 3)) if images.sum() > 0 else images.amax((2, 3))

    with pytest.raises(ModelUnavailable, match="it cannot be compiled: "):
        compile_network(tiny_model(Branching()), tmp_path / "library.pt2", max_batch_size=1, seconds=30)


def test_a_library_that_is_damaged_is_not_served(tmp_path: Path) -> None:
    modes = search(tmp_path)
    modes._library(convolutional()).write_bytes(b"no library")
    with pytest.raises(ModelUnavailable, match="cannot be loaded"):
        modes.settle(convolutional(), None)
