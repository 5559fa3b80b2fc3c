"""The weights that ship with Pinhole, and what may be in their place."""

import pickle
import runpy
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from inference_service.model import Model, ModelUnavailable
from inference_service.sources.builtin import load_efficientnet_lite0
from torch import nn

from tests.unit.inference.weight_files import Payload


def test_it_has_the_thousand_classes_of_imagenet(efficientnet: Model) -> None:
    spec = find_spec("torchvision")
    assert spec is not None
    assert spec.origin is not None
    # The list alone: importing torchvision takes seconds.
    theirs = runpy.run_path(str(Path(spec.origin).parent / "models" / "_meta.py"))["_IMAGENET_CATEGORIES"]
    assert list(efficientnet.labels) == theirs
    assert len(efficientnet.labels) == 1000


def test_it_is_in_evaluation_mode_and_gives_the_same_each_time(efficientnet: Model) -> None:
    image = torch.rand(1, 3, 224, 224) * 2 - 1
    first, second = efficientnet.forward(image), efficientnet.forward(image)
    assert (first.shape, first.dtype, first.requires_grad) == ((1, 1000), torch.float32, False)
    assert torch.equal(first, second)


def test_a_row_does_not_depend_on_the_others_of_its_batch(efficientnet: Model) -> None:
    images = torch.rand(3, 3, 224, 224) * 2 - 1
    rows = efficientnet.forward(images)
    alone = torch.cat([efficientnet.forward(image[None]) for image in images])
    assert torch.allclose(rows, alone, atol=1e-4)


def test_missing_weights_are_an_error_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="No such file"):
        load_efficientnet_lite0(tmp_path / "weights.pth")


@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04 cut short"])
def test_damaged_weights_are_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(ModelUnavailable, match="cannot load the weights"):
        load_efficientnet_lite0(path)


def test_the_weights_of_another_model_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(nn.Linear(2, 2).state_dict(), path)
    with pytest.raises(ModelUnavailable, match="cannot load the weights"):
        load_efficientnet_lite0(path)


@pytest.mark.parametrize("save", ["pickle", "torch"])
def test_weights_that_carry_code_do_not_run_it(tmp_path: Path, save: str) -> None:
    path, ran = tmp_path / "weights.pth", tmp_path / "ran"
    if save == "torch":
        torch.save({"_fc.weight": Payload(ran)}, path)
    else:
        path.write_bytes(pickle.dumps(Payload(ran), protocol=2))
    with pytest.raises(ModelUnavailable):
        load_efficientnet_lite0(path)
    assert not ran.exists()
