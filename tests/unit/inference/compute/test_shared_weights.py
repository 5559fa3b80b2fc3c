"""Weights that several workers map from one file."""

import gc
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from inference_service.compute.conversion import in_mode
from inference_service.compute.modes import Mode
from inference_service.compute.shared_weights import share_weights
from inference_service.model import Model
from structlog.testing import capture_logs
from torch import Tensor, nn

from tests.unit.inference.networks import tiny_model


def convolving(seed: int = 1) -> Model:
    """Return a model with a normalisation, whose averages are no parameters."""
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return replace(tiny_model(network.eval()), digest="d" * 64)


def logits(model: Model) -> Tensor:
    return model.forward(torch.linspace(-1, 1, 2 * 3 * 8 * 8).view(2, 3, 8, 8))


def is_mapped(folder: Path) -> bool:
    return str(folder) in Path(f"/proc/{os.getpid()}/maps").read_text()


@pytest.mark.parametrize("mode", [Mode.EAGER, Mode.CHANNELS_LAST])
def test_the_weights_are_those_of_the_file_and_the_logits_as_before(mode: Mode, tmp_path: Path) -> None:
    model = in_mode(convolving(), mode, max_batch_size=2, shares_weights=True)
    expected = logits(model)
    share_weights(model, tmp_path)
    assert is_mapped(tmp_path)
    assert torch.equal(logits(model), expected)
    layouts = {parameter.is_contiguous() for parameter in model.network.parameters() if parameter.ndim == 4}
    assert layouts == {mode is Mode.EAGER}


def test_the_second_worker_takes_the_file_of_the_first(tmp_path: Path) -> None:
    first, second = convolving(), convolving(seed=2)
    share_weights(first, tmp_path)
    [file] = tmp_path.iterdir()
    share_weights(second, tmp_path)
    assert list(tmp_path.iterdir()) == [file], "nothing unfinished is left"
    assert torch.equal(logits(first), logits(second))


def test_without_room_for_the_file_the_weights_stay_as_they_are(tmp_path: Path) -> None:
    model = convolving()
    expected = logits(model)
    share_weights(model, tmp_path / "missing")
    assert torch.equal(logits(model), expected)


def test_a_disk_that_is_full_leaves_the_weights_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def save(*_: object) -> None:
        raise RuntimeError("[enforce fail at inline_container.cc:671] . unexpected pos 896 vs 790")

    monkeypatch.setattr(torch, "save", save)  # as torch says it on a file system of 1 MB
    model = convolving()
    expected = logits(model)
    with capture_logs() as logged:
        share_weights(model, tmp_path)
    assert torch.equal(logits(model), expected)
    assert [entry["event"] for entry in logged] == ["weights_not_shared"]
    assert list(tmp_path.iterdir()) == []


def test_the_file_goes_with_the_network_and_is_written_anew_for_who_comes_later(tmp_path: Path) -> None:
    first, second = convolving(), convolving()
    share_weights(first, tmp_path)
    share_weights(second, tmp_path)
    expected = logits(second)
    del first
    gc.collect()
    assert list(tmp_path.iterdir()) == []
    assert torch.equal(logits(second), expected), "who has mapped it keeps it"
    third = convolving()
    share_weights(third, tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_program_can_be_shared_too(tmp_path: Path) -> None:
    model = convolving()
    batches = {0: torch.export.Dim("images", min=1, max=8)}
    program = torch.export.export(model.network, (torch.zeros(2, 3, 8, 8),), dynamic_shapes=(batches,))
    exported = replace(model, network=program.module())
    expected = logits(exported)
    share_weights(exported, tmp_path)
    assert is_mapped(tmp_path)
    assert torch.equal(logits(exported), expected)
