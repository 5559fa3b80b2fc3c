"""Pictures to the input of a model."""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """The square in the middle, resized, and its grey levels centred: what a model was published with."""

    input_size: int
    """Width and height of the input, in pixels."""

    crop_padding: int
    """How much wider the whole picture is than the input, at the scale of the input, in pixels."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    """Of red, green and blue, in grey levels from 0 to 255."""

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """Return the float32 [3, input_size, input_size] of an RGB picture of any size."""
        square = self._crop(image).resize((self.input_size, self.input_size), Image.Resampling.BICUBIC)
        levels = np.asarray(square, dtype=np.float32)
        normalized = (levels - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        return torch.from_numpy(np.ascontiguousarray(normalized.transpose(2, 0, 1)))

    def _crop(self, image: Image.Image) -> Image.Image:
        kept = self.input_size / (self.input_size + self.crop_padding)
        size = max(1, int(kept * min(image.size)))
        left, top = (image.width - size + 1) // 2, (image.height - size + 1) // 2
        return image.crop((left, top, left + size, top + size))
