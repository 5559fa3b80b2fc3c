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
        side = (self.input_size, self.input_size)
        resampling = _RESAMPLING[self.interpolation]
        if self.resize_size is None:
            square = image.crop(self._middle(image)).resize(side, resampling)
        else:
            square = image.resize(side, resampling, box=self._box(image, self.resize_size))
        levels = np.asarray(square, dtype=np.float32)
        normalized = (levels - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        return torch.from_numpy(np.ascontiguousarray(normalized.transpose(2, 0, 1)))

    def _middle(self, image: Image.Image) -> tuple[int, int, int, int]:
        """Return the left, upper, right and lower edge of the square that is cut out and then resized."""
        kept = self.input_size / (self.input_size + self.crop_padding)
        size = max(1, int(kept * min(image.size)))
        left, top = (image.width - size + 1) // 2, (image.height - size + 1) // 2
        return left, top, left + size, top + size

    def _box(self, image: Image.Image, resize_size: int) -> tuple[float, float, float, float]:
        """Return the edges of what is left when the picture is resized and then cut.

        Only that is resized, and pixels beyond its edges count for those at them, as they would.
        """
        short = min(image.size)
        left, right = self._span(image.width, int(resize_size * image.width / short))
        top, bottom = self._span(image.height, int(resize_size * image.height / short))
        return left, top, right, bottom

    def _span(self, size: int, resized: int) -> tuple[float, float]:
        """Return the edges, at the scale of the picture, of the middle of a side that is resized."""
        start = round((resized - self.input_size) / 2)
        scale = size / resized
        return start * scale, min((start + self.input_size) * scale, size)


def grey_levels(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the levels from 0 to 255 of a mean or a standard deviation that is given from 0 to 1."""
    red, green, blue = (255 * value for value in values)
    return red, green, blue
