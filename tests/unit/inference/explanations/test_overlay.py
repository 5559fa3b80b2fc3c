"""The heat map over the picture."""

import io

import numpy as np
import pytest
import torch
from inference_service.explanations.overlay import MAX_SIDE, draw_overlay
from inference_service.preprocessing import Preprocessing
from PIL import Image

MIDDLE = Preprocessing(input_size=8, resize_size=16, mean=(0.0,) * 3, std=(255.0,) * 3)
"""Sees the middle of a picture, half as wide as its short side."""


def drawn(size: tuple[int, int], heat: torch.Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    file = io.BytesIO()
    Image.new("RGB", size, "gray").save(file, "PNG")
    png = draw_overlay(file.getvalue(), heat, MIDDLE, max_pixels=10**8)
    return np.asarray(Image.open(io.BytesIO(png)))


def test_it_lies_where_the_model_looked() -> None:
    pixels = drawn((80, 40), torch.ones(2, 2))
    changed = (pixels != 128).any(axis=-1)
    assert changed[10:30, 30:50].all()
    assert changed.sum() == 20 * 20


def test_what_is_cold_is_as_it_was() -> None:
    heat = torch.zeros(4, 4)
    heat[:, 2:] = 1
    pixels = drawn((80, 80), heat)
    assert (pixels[20:60, 20:30] == 128).all()
    assert (pixels[20:60, 50:60] != 128).any(axis=-1).all()


@pytest.mark.parametrize("size", [(4000, 1000), (1, 3000), (1, 1)])
def test_large_and_narrow_pictures_are_drawn_small(size: tuple[int, int]) -> None:
    height, width, _ = drawn(size, torch.ones(7, 7)).shape
    assert max(height, width) == min(MAX_SIDE, max(size))
    assert min(height, width) >= 1
