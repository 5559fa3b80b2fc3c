"""Pictures to the input of a model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from PIL import Image

Interpolation = Literal["nearest", "bilinear", "bicubic"]
_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}

_LARGE = 2.0
"""Where this many pixels become one, a rounding error of one pixel is less than a grey level of the result."""


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """The square in the middle, resized, and its grey levels centred: what a model was published with."""

    input_size: int
    """Width and height of the input, in pixels."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    """Of red, green and blue, in grey levels from 0 to 255."""

    crop_padding: int = 0
    """How much wider the whole picture is than the input, at the scale of the input, in pixels."""

    resize_size: int | None = None
    """Where it is set: resize the short side to this and cut the input out of the middle, as torchvision does."""

    interpolation: Interpolation = "bicubic"
    """Always with antialiasing, as Pillow does and torchvision's transforms of weights do."""

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """Return the float32 [3, input_size, input_size] of an RGB picture of any size."""
        square = self._crop_then_resize(image) if self.resize_size is None else self._resize_then_crop(image)
        levels = torch.from_numpy(np.array(square)).permute(2, 0, 1)
        normalized = levels.to(torch.float32, memory_format=torch.contiguous_format)
        return normalized.sub_(_channels(self.mean)).div_(_channels(self.std))

    def _crop_then_resize(self, image: Image.Image) -> Image.Image:
        kept = self.input_size / (self.input_size + self.crop_padding)
        size = max(1, int(kept * min(image.size)))
        left, top = (image.width - size + 1) // 2, (image.height - size + 1) // 2
        square = image.crop((left, top, left + size, top + size))
        return square.resize((self.input_size, self.input_size), _RESAMPLING[self.interpolation])

    def _resize_then_crop(self, image: Image.Image) -> Image.Image:
        """Do as torchvision does, sizes and roundings included."""
        assert self.resize_size is not None
        short, resampling = min(image.size), _RESAMPLING[self.interpolation]
        width, height = (int(self.resize_size * side / short) for side in image.size)
        left, top = round((width - self.input_size) / 2), round((height - self.input_size) / 2)
        right, bottom = left + self.input_size, top + self.input_size
        scale = short / self.resize_size
        if scale < _LARGE or image.height > image.width:
            return image.resize((width, height), resampling).crop((left, top, right, bottom))
        # What would be cut off is up to half of the work. Pillow rounds these edges to 32 bits, and of a tall
        # picture it may resize the columns first, which it does not of a square.
        across, down = image.width / width, image.height / height
        box = (left * across, top * down, min(right * across, image.width), min(bottom * down, image.height))
        return image.resize((self.input_size, self.input_size), resampling, box=box)


def _channels(values: tuple[float, float, float]) -> torch.Tensor:
    return torch.tensor(values).view(3, 1, 1)


def grey_levels(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the levels from 0 to 255 of a mean or a standard deviation that is given from 0 to 1."""
    red, green, blue = (255 * value for value in values)
    return red, green, blue
