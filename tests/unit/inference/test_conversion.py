"""Models in their modes: the same answers, as far as the dtype goes."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from inference_service.conversion import candidates, in_mode, missing_for
from inference_service.exported import read_program
from inference_service.model import Model
from inference_service.modes import Mode, ModeSetting
from inference_service.saliency import open_network
from torch import nn

from tests.unit.inference.networks import tiny_model
from tests.unit.inference.weight_files import exported


@pytest.fixture
def convolution() -> Model:
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)
    )
    return tiny_model(layers.eval())


@pytest.mark.parametrize(
    ("mode", "dtype", "tolerance"),
    [
        (Mode.EAGER, torch.float32, 0.0),
        (Mode.CHANNELS_LAST, torch.float32, 1e-5),
        (Mode.BF16, torch.bfloat16, 0.02),
    ],
)
def test_a_mode_changes_the_layout_and_the_dtype_and_hardly_the_logits(
    convolution: Model, mode: Mode, dtype: torch.dtype, tolerance: float
) -> None:
    images = torch.rand(4, 3, 8, 8)
    expected = convolution.forward(images)
    before = copy.deepcopy(convolution.network.state_dict())
    changed = in_mode(convolution, mode, max_batch_size=4, keep=True)
    assert (changed.mode, changed.dtype) == (mode, dtype)
    assert torch.allclose(changed.forward(images), expected, atol=tolerance, rtol=0)
    assert convolution.forward(images).equal(expected)
    assert all(tensor.equal(before[name]) for name, tensor in convolution.network.state_dict().items())
    if mode is not Mode.EAGER:
        [weight] = [p for p in changed.network.parameters() if p.dim() == 4]
        assert weight.is_contiguous(memory_format=torch.channels_last)


def test_without_a_copy_no_memory_is_spent_on_two(convolution: Model) -> None:
    assert open_network(in_mode(convolution, Mode.BF16, max_batch_size=4)) is convolution.network


def test_a_program_can_be_computed_in_another_mode(tmp_path: Path) -> None:
    model = tiny_model(read_program(exported(tmp_path / "program.pt2")))
    images = torch.rand(2, 3, 8, 8)
    changed = in_mode(model, Mode.CHANNELS_LAST, max_batch_size=4, keep=True)
    assert torch.allclose(changed.forward(images), model.forward(images))


@pytest.mark.parametrize(
    ("setting", "dtype", "modes"),
    [
        (
            "auto",
            torch.float32,
            [Mode.CHANNELS_LAST, Mode.BF16, Mode.COMPILE, Mode.COMPILE_BF16, Mode.CASCADE, Mode.COMPILE_CASCADE],
        ),
        ("auto-fp32", torch.float32, [Mode.CHANNELS_LAST, Mode.COMPILE]),
        ("auto", torch.bfloat16, [Mode.CHANNELS_LAST, Mode.COMPILE]),
    ],
)
def test_a_dtype_that_is_asked_for_is_kept(setting: ModeSetting, dtype: torch.dtype, modes: list[Mode]) -> None:
    assert candidates(replace(tiny_model(), dtype=dtype), setting) == modes


def test_bf16_needs_a_processor_that_computes_with_it() -> None:
    known = torch.cpu.get_capabilities()
    computes = any(known.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    assert (missing_for(Mode.BF16, "cpu") is None) == computes
    assert (missing_for(Mode.COMPILE_BF16, "cpu") is None) == computes
    assert missing_for(Mode.CHANNELS_LAST, "cpu") is None


def test_only_eager_leaves_the_normalisation_to_itself(convolution: Model) -> None:
    def normalizes(model: Model) -> bool:
        return any(isinstance(module, nn.BatchNorm2d) for module in model.network.modules())

    modes = (Mode.EAGER, Mode.CHANNELS_LAST, Mode.BF16)
    assert [normalizes(in_mode(convolution, mode, max_batch_size=4, keep=True)) for mode in modes] == [
        True,
        False,
        False,
    ]


def test_compiling_needs_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert missing_for(Mode.COMPILE, "cpu") == "there is no C++ compiler (no-such-compiler)"
    assert missing_for(Mode.COMPILE_CASCADE, "cpu") is not None
    assert missing_for(Mode.COMPILE, "cuda:0") == missing_for(Mode.CASCADE, "cuda:0") == "it is for processors"
