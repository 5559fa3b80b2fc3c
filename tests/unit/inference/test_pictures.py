"""The forms in which a caller may send a picture."""

import math

import numpy as np
import pytest
import torch
from inference_service.errors import InvalidImage, NotAnImage
from inference_service.pictures import EncodedPicture, Pixels, PreparedPicture
from inference_service.preprocessing import Preprocessing
from inference_service.timings import StageTimings
from PIL import Image

from tests.unit.inference.pictures import encoded, photo

PREPROCESSING = Preprocessing(input_size=8, crop_padding=0, mean=(0.0,) * 3, std=(255.0,) * 3)


def prepare(picture: EncodedPicture | Pixels | PreparedPicture, *, max_pixels: int = 1_000_000) -> torch.Tensor:
    return picture.prepare(PREPROCESSING, StageTimings(), max_pixels=max_pixels)


def test_pixels_are_preprocessed_as_those_of_a_file() -> None:
    image = photo()
    from_file = prepare(EncodedPicture(encoded(image, "PNG")))
    from_pixels = prepare(Pixels(np.asarray(image)))
    assert torch.equal(from_file, from_pixels)


def test_the_input_of_a_model_is_taken_as_it_is() -> None:
    values = np.random.default_rng(1).random((3, 8, 8), np.float32)
    assert torch.equal(prepare(PreparedPicture(values)), torch.from_numpy(values))


@pytest.mark.parametrize("shape", [(2, 3, 3), (0, 4, 3)])
def test_the_bytes_of_pixels_are_their_memory_row_by_row(shape: tuple[int, ...]) -> None:
    levels = np.arange(math.prod(shape), dtype=np.uint8).reshape(shape)
    for picture in (Pixels(levels), PreparedPicture(levels.astype(np.float32))):
        values = picture.levels if isinstance(picture, Pixels) else picture.values
        assert bytes(picture.data) == values.tobytes()
        assert len(picture.data) == values.nbytes
        assert np.shares_memory(np.frombuffer(picture.data, np.uint8), values) is bool(values.size)


@pytest.mark.parametrize("shape", [(0, 4, 3), (4, 0, 3), (20, 10, 3)])
def test_pixels_of_a_wrong_size_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidImage, match="1 to 100 pixels"):
        prepare(Pixels(np.zeros(shape, np.uint8)), max_pixels=100)


def test_an_input_of_another_size_is_refused() -> None:
    with pytest.raises(InvalidImage, match="expected 3 x 8 x 8 values, got 3 x 8 x 7"):
        prepare(PreparedPicture(np.zeros((3, 8, 7), np.float32)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_refused(value: float) -> None:
    values = np.zeros((3, 8, 8), np.float32)
    values[1, 2, 3] = value
    with pytest.raises(InvalidImage, match="not a number"):
        prepare(PreparedPicture(values))


def test_a_file_that_is_no_picture_is_refused() -> None:
    with pytest.raises(NotAnImage):
        prepare(EncodedPicture(b"text"))


def test_pictures_with_the_same_bytes_are_told_apart() -> None:
    wide, tall = Pixels(np.zeros((2, 4, 3), np.uint8)), Pixels(np.zeros((4, 2, 3), np.uint8))
    assert wide.data == tall.data
    dot = encoded(Image.new("RGB", (1, 1)), "PNG")
    kinds = {wide.kind, tall.kind, EncodedPicture(dot).kind, PreparedPicture(np.zeros((3, 1, 1), np.float32)).kind}
    assert len(kinds) == 4
