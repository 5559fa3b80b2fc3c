"""What a picture becomes before the network."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from inference_service.builtin import PREPROCESSING
from inference_service.model import Model
from inference_service.preprocessing import Preprocessing
from inference_service.torchvision_models import preprocessing_of
from PIL import Image

from tests.unit.inference.pictures import photo


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (3000, 2), (224, 224), (255, 257), (640, 480)])
def test_any_size_becomes_the_size_of_the_input(size: tuple[int, int]) -> None:
    tensor = PREPROCESSING(photo().resize(size))
    assert (tensor.shape, tensor.dtype) == ((3, 224, 224), torch.float32)
    assert tensor.is_contiguous()
    assert -1 <= float(tensor.min()) <= float(tensor.max()) <= 1


def test_channels_keep_their_order_and_are_normalized_each_by_its_own() -> None:
    preprocessing = Preprocessing(input_size=2, crop_padding=0, mean=(10, 20, 30), std=(1, 2, 4))
    tensor = preprocessing(Image.new("RGB", (5, 5), (11, 24, 42)))
    assert tensor[:, 0, 0].tolist() == [1, 2, 3]


def test_the_middle_of_the_picture_is_taken() -> None:
    levels = np.zeros((8, 16, 3), np.uint8)
    levels[1:7, 5:11] = 200
    preprocessing = Preprocessing(input_size=6, crop_padding=2, mean=(0.0,) * 3, std=(1.0,) * 3)
    tensor = preprocessing(Image.fromarray(levels))
    assert torch.equal(tensor, torch.full((3, 6, 6), 200.0))


def black_and_white(width: int, height: int) -> Image.Image:
    """Return what is hardest to resize alike."""
    levels = np.random.default_rng(0).integers(0, 2, (height, width, 3)) * 255
    return Image.fromarray(levels.astype(np.uint8))


def resized(name: str, width: int, height: int) -> Image.Image:
    return photo(name).resize((width, height), Image.Resampling.LANCZOS)


PICTURES: dict[str, Callable[[], Image.Image]] = {
    "photo": partial(photo, "chelsea.png"),
    "large": partial(resized, "coffee.png", 1920, 1277),
    "tall": partial(resized, "chelsea.png", 301, 1433),
    "wide": partial(resized, "coffee.png", 1901, 211),
    "small": partial(resized, "chelsea.png", 97, 61),
    "square": partial(resized, "coffee.png", 256, 256),
    "tiny": partial(resized, "coffee.png", 1, 3),
    "black and white": partial(black_and_white, 901, 640),
}


@pytest.fixture(scope="module")
def published() -> dict[str, Any]:
    """The transforms that torchvision publishes with weights: each kind of size, interpolation and mean."""
    from torchvision.models import get_model_weights

    names = ("resnet18", "resnet50", "inception_v3", "efficientnet_b3", "vit_l_32", "swin_v2_t", "regnet_y_16gf")
    found = {name: get_model_weights(name)["DEFAULT"].transforms() for name in names}
    return {**found, "vgg16": get_model_weights("vgg16")["IMAGENET1K_FEATURES"].transforms()}


@pytest.mark.parametrize("picture", PICTURES)
def test_it_is_within_a_grey_level_of_the_transforms_of_torchvision(published: dict[str, Any], picture: str) -> None:
    image = PICTURES[picture]()
    for name, transforms in published.items():
        preprocessing = preprocessing_of(transforms)
        ours, theirs = preprocessing(image), transforms(image)
        difference = (ours - theirs).abs()
        one_level = 1 / 255 / min(transforms.std)
        assert ours.shape == theirs.shape, name
        assert float(difference.max()) <= 1.001 * one_level, name
        assert float(difference.mean()) < 1e-3, name


@pytest.mark.parametrize("picture", ["photo", "large", "tall", "wide", "small"])
def test_the_five_best_classes_are_those_after_the_transforms_of_torchvision(
    published: dict[str, Any], efficientnet: Model, picture: str
) -> None:
    image, transforms = PICTURES[picture](), published["resnet50"]
    ours, theirs = preprocessing_of(transforms)(image), transforms(image)
    best = efficientnet.forward(torch.stack([ours, theirs])).topk(5).indices
    assert best[0].tolist() == best[1].tolist()
