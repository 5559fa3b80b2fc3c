"""What a picture becomes before the network."""

import io
import resource
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from inference_service.decoding import decode_picture
from inference_service.model import Model
from inference_service.preprocessing import Preprocessing
from inference_service.sources.builtin import PREPROCESSING
from inference_service.sources.torchvision_models import preprocessing_of
from PIL import Image

from tests.unit.inference.pictures import encoded, photo


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
    "a line": partial(resized, "coffee.png", 301, 9),
    "a column": partial(resized, "coffee.png", 9, 301),
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
        assert float(difference.mean()) < one_level / 20, name  # 1e-3 of what most models take


@pytest.mark.parametrize("size", [(1, 8000), (8000, 1), (2, 30_000)])
def test_a_long_picture_of_a_few_bytes_stays_small(published: dict[str, Any], size: tuple[int, int]) -> None:
    # Resized as a whole, as torchvision does, 1 x 8000 pixels become 256 x 2 048 000.
    preprocessing = preprocessing_of(published["resnet50"])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tensor = preprocessing(Image.new("RGB", size, (200, 100, 50)))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * 1024
    assert tensor.amax((1, 2)).equal(tensor.amin((1, 2)))


def from_jpeg(published: dict[str, Any], name: str, size: tuple[int, int], **options: Any) -> torch.Tensor:
    """Return how far the input of ResNet-50 is from that of torchvision's transforms, from file to input."""
    data = encoded(resized(name, *size), "JPEG", **options)
    ours = preprocessing_of(published["resnet50"])(decode_picture(data, max_pixels=size[0] * size[1]))
    with Image.open(io.BytesIO(data)) as image:
        theirs: torch.Tensor = published["resnet50"](image)
    return (ours - theirs).abs()


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("quality", [30, 60, 95])
def test_from_a_jpeg_to_the_input_it_is_within_a_grey_level(
    published: dict[str, Any], subsampling: str, quality: int
) -> None:
    for name in ("chelsea.png", "coffee.png"):
        for size in [
            (640, 425),
            (1920, 1280),
            (1279, 1281),
            (999, 2997),
            (2400, 700),
            (449, 303),
            (232, 232),
            (90, 60),
        ]:
            difference = from_jpeg(published, name, size, quality=quality, subsampling=subsampling)
            assert float(difference.max()) < 0.02
            assert float(difference.mean()) < 1e-3


def test_of_a_picture_that_is_all_blocks_few_pixels_are_two_levels_away(published: dict[str, Any]) -> None:
    difference = from_jpeg(published, "chelsea.png", (1920, 1280), quality=10)
    assert float(difference.max()) < 0.04
    assert float((difference > 0.02).float().mean()) < 1e-4
    assert float(difference.mean()) < 1e-3


@pytest.mark.parametrize("size", [(1920, 1280), (1280, 1920), (901, 704), (3000, 900)])
def test_the_fast_way_of_the_built_in_model_is_within_two_hundredths_of_pillow(size: tuple[int, int]) -> None:
    image = resized("chelsea.png", *size)
    side = int(min(size) * 224 / 256)
    left, top = (size[0] - side + 1) // 2, (size[1] - side + 1) // 2
    square = image.crop((left, top, left + side, top + side)).resize((224, 224), Image.Resampling.BICUBIC)
    theirs = (torch.from_numpy(np.array(square)).permute(2, 0, 1).float() - 127) / 128
    difference = (PREPROCESSING(image) - theirs).abs()
    assert float(difference.max()) < 0.02
    assert float(difference.mean()) < 1e-3
    assert torch.equal(PREPROCESSING(np.array(image)), PREPROCESSING(image))


def test_large_jpegs_are_decoded_at_a_part_of_their_size_only_where_that_is_asked_for() -> None:
    resnet = Preprocessing(input_size=224, resize_size=232, mean=(0.0,) * 3, std=(1.0,) * 3)
    assert (PREPROCESSING.min_side, resnet.min_side) == (None, None)
    assert replace(PREPROCESSING, scaled_decoding=True).min_side == 2 * 256
    assert replace(resnet, scaled_decoding=True).min_side == 2 * 232


@pytest.mark.parametrize("picture", ["photo", "large", "tall", "wide", "small"])
def test_the_five_best_classes_are_those_after_the_transforms_of_torchvision(
    published: dict[str, Any], efficientnet: Model, picture: str
) -> None:
    image, transforms = PICTURES[picture](), published["resnet50"]
    ours, theirs = preprocessing_of(transforms)(image), transforms(image)
    best = efficientnet.forward(torch.stack([ours, theirs])).topk(5).indices
    assert best[0].tolist() == best[1].tolist()
