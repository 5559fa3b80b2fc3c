"""Networks in 8 bits, with ranges that were learnt from pictures."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from inference_service.compute.agreement import inputs
from inference_service.compute.modes import Mode
from inference_service.compute.quantization import calibrate, quantized, read_ranges, save_ranges
from inference_service.lifecycle.loading import Loader
from inference_service.model import Model, ModelSource, ModelUnavailable
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.unit.inference.networks import tiny_model


def convolutional(channels: int = 8) -> Model:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, channels, 3), nn.BatchNorm2d(channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network = nn.Sequential(*layers, nn.Linear(channels, 3)).eval()
    return replace(tiny_model(network), digest="abc")


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a model with the digest `abc`."""
    path = tmp_path_factory.mktemp("calibrated") / "ranges.safetensors"
    model = convolutional()
    save_ranges(path, calibrate(model, inputs(model, 16)), digest="abc")
    return path


def test_the_layers_compute_in_8_bits_and_say_nearly_the_same(calibrated: Path) -> None:
    model = convolutional()
    in_int8 = quantized(model, read_ranges(calibrated, digest="abc"))
    images = next(inputs(model, 16))
    expected, found = model.forward(images), in_int8.forward(images)
    assert (in_int8.mode, in_int8.dtype_name, found.dtype) == (Mode.INT8, "int8", torch.float32)
    assert not expected.equal(found)
    assert torch.allclose(expected, found, atol=0.05)
    assert "Quantized" in repr(in_int8.network)


class Traced(nn.Sequential):
    """Convolves. Says when it is copied, and when its Python is run, and goes on then when it may."""

    def __init__(self) -> None:
        super().__init__(*convolutional().network.children())
        self.copied, self.run = (threading.Event(), threading.Event()), (threading.Event(), threading.Event())

    def __deepcopy__(self, _memo: object) -> nn.Module:
        _pass(self.copied)
        return self

    def forward(self, images: Tensor) -> Tensor:
        _pass(self.run)
        logits: Tensor = super().forward(images)  # type: ignore[no-untyped-call]
        return logits


def _pass(gate: tuple[threading.Event, threading.Event]) -> None:
    entered, opened = gate
    entered.set()
    assert opened.wait(30)


def test_one_that_ends_on_a_thread_leaves_another_thread_as_it_was() -> None:
    first, second = Traced().eval(), Traced().eval()
    first.copied[1].set()
    second.run[1].set()
    with ThreadPoolExecutor(2) as threads:
        one, other = (
            threads.submit(calibrate, replace(convolutional(), network=network), []) for network in (first, second)
        )
        assert first.run[0].wait(30)
        assert second.copied[0].wait(30)
        first.run[1].set()
        assert one.result(30)
        second.copied[1].set()  # whatever the first has changed is taken back by now
        assert other.result(30).keys() == one.result().keys()


def test_other_ranges_make_another_model(calibrated: Path) -> None:
    ranges = read_ranges(calibrated, digest="abc")
    wider = {name: 2 * values for name, values in ranges.items()}
    identities = {quantized(convolutional(), each).identity for each in (ranges, wider, dict(reversed(ranges.items())))}
    assert len(identities) == 2


def test_the_loader_serves_it_and_searches_for_nothing(calibrated: Path) -> None:
    source = ModelSource("tiny", "1", "test:tiny", convolutional, calibration=calibrated)
    loader = Loader(4)
    model = loader.load(source, search=True)
    assert (model.mode, list(model.batch_seconds)) == (Mode.INT8, [1, 4])
    assert not loader.can_search(source, model)


def test_the_ranges_of_other_weights_are_refused(calibrated: Path) -> None:
    with pytest.raises(ModelUnavailable, match="is the calibration of other weights: of abc"):
        read_ranges(calibrated, digest="def")


def other_tensors(path: Path) -> None:
    save_file({"weight": torch.zeros(1)}, path)


def no_file(path: Path) -> None:
    path.unlink(missing_ok=True)


def damaged(path: Path) -> None:
    path.write_bytes(b"no tensors")


@pytest.mark.parametrize(
    ("write", "reason"),
    [(other_tensors, "is no calibration"), (no_file, "cannot read"), (damaged, "cannot read")],
)
def test_a_file_that_is_no_calibration_is_refused(tmp_path: Path, write: Callable[[Path], None], reason: str) -> None:
    path = tmp_path / "ranges.safetensors"
    write(path)
    with pytest.raises(ModelUnavailable, match=reason):
        read_ranges(path, digest="abc")


def test_a_file_that_cannot_be_read_is_named_once(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "nowhere" / "ranges", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(ModelUnavailable) as unread:
            read_ranges(path, digest="abc")
        assert str(unread.value) == f"cannot read the calibration {path}: {reason}"


def test_the_ranges_of_another_network_are_refused(calibrated: Path) -> None:
    other = tiny_model(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    with pytest.raises(ModelUnavailable, match="of another network"):
        quantized(other, read_ranges(calibrated, digest="abc"))


def test_a_network_that_cannot_be_traced_or_is_not_float32_is_refused() -> None:
    class Branching(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.mean((2, 3)) if images.sum() > 0 else images.amax((2, 3))

    with pytest.raises(ModelUnavailable, match="cannot be computed in 8 bits"):
        calibrate(tiny_model(Branching()), [])
    with pytest.raises(ModelUnavailable, match="made of a float32 model on the CPU"):
        calibrate(replace(tiny_model(), dtype=torch.bfloat16), [])
