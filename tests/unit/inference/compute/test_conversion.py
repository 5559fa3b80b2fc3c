"""Models in their modes: the same answers, as far as the dtype goes."""

import copy
import gc
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from inference_service.compute.conversion import candidates, in_mode, missing_for
from inference_service.compute.modes import Mode, ModeSetting
from inference_service.compute.packing import PackedConvolution
from inference_service.explanations.saliency import grad_cam, open_network
from inference_service.model import Model
from inference_service.preprocessing import Preprocessing
from inference_service.sources.exported import read_program
from torch import Tensor, nn
from torchvision.models import get_model

from tests.unit.inference.memory import anonymous_kilobytes
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
    changed = in_mode(convolution, mode, max_batch_size=4, keep=True, shares_weights=True)
    assert (changed.mode, changed.dtype) == (mode, dtype)
    assert torch.allclose(changed.forward(images), expected, atol=tolerance, rtol=0)
    assert convolution.forward(images).equal(expected)
    assert all(tensor.equal(before[name]) for name, tensor in convolution.network.state_dict().items())
    if mode is not Mode.EAGER:
        [weight] = [p for p in changed.network.parameters() if p.dim() == 4]
        assert weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("mode", [Mode.CHANNELS_LAST, Mode.BF16])
def test_no_batch_has_its_weights_laid_out_anew_and_the_logits_stay(
    convolution: Model, mode: Mode, capfd: pytest.CaptureFixture[str]
) -> None:
    unpacked, packed = (
        in_mode(convolution, mode, max_batch_size=4, keep=True, shares_weights=shares) for shares in (True, False)
    )
    done: dict[bool, list[str]] = {True: [], False: []}
    for rows in (2, 3, 4):  # of one such small picture torch leaves the convolution to others
        images = torch.rand(rows, 3, 8, 8)
        assert torch.allclose(
            packed.forward(images), unpacked.forward(images), atol=1e-6 if mode is Mode.CHANNELS_LAST else 0.01
        )
        for model in (packed, unpacked):
            with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):  # type: ignore[no-untyped-call]
                model.forward(images)
            done[model is packed] += re.findall(r"exec,cpu,(\w+)", capfd.readouterr().out)
    assert (done[True].count("convolution"), done[False].count("convolution")) == (3, 3)
    assert ("reorder" in done[True], "reorder" in done[False]) == (False, True)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "googlenet", "squeezenet1_1"])
def test_packed_networks_say_and_show_what_they_did(name: str) -> None:
    torch.manual_seed(0)
    network = (
        get_model(name, weights=None, num_classes=5, init_weights=False)
        if name == "googlenet"
        else get_model(name, weights=None, num_classes=5)
    )
    preprocessing = Preprocessing(input_size=64, crop_padding=0, mean=(0.0,) * 3, std=(255.0,) * 3)
    model = Model(network.eval(), preprocessing, tuple("abcde"), device="cpu", dtype=torch.float32)
    unpacked, packed = (
        in_mode(model, Mode.CHANNELS_LAST, max_batch_size=4, keep=True, shares_weights=shares)
        for shares in (True, False)
    )
    kinds = Counter(type(module) for module in open_network(packed).modules())
    assert kinds[PackedConvolution] > kinds[nn.Conv2d]
    images = torch.rand(3, 3, 64, 64)
    assert torch.allclose(packed.forward(images), unpacked.forward(images), atol=1e-6)
    shown, expected = (grad_cam(images[:1], each, open_network(each), None) for each in (packed, unpacked))
    assert shown.shape[1] > 5
    assert torch.allclose(shown, expected, atol=1e-5)


def test_packed_weights_are_in_memory_once() -> None:
    model = tiny_model(
        nn.Sequential(nn.Conv2d(3, 1024, 1), nn.Conv2d(1024, 2048, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    )
    gc.collect()
    before = anonymous_kilobytes()
    packed = in_mode(model, Mode.CHANNELS_LAST, max_batch_size=4)
    packed.forward(torch.rand(4, 3, 8, 8))
    gc.collect()
    assert anonymous_kilobytes() - before < 20_000, "there are 75 MB of weights"


def test_a_layer_that_is_called_with_inputs_of_two_sizes_is_left_as_it_is() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = nn.Conv2d(3, 3, 3)

        def forward(self, images: Tensor) -> Tensor:
            return self.convolution(self.convolution(images)).mean((2, 3))  # type: ignore[no-any-return]

    model = tiny_model(Twice().eval())
    images = torch.rand(2, 3, 8, 8)
    changed = in_mode(model, Mode.CHANNELS_LAST, max_batch_size=2, keep=True)
    assert type(open_network(changed).convolution) is nn.Conv2d
    assert torch.allclose(changed.forward(images), model.forward(images), atol=1e-5)


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
