"""What a picture becomes before the network."""

import numpy as np
import pytest
import torch
from inference_service.builtin import PREPROCESSING
from inference_service.preprocessing import Preprocessing
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
