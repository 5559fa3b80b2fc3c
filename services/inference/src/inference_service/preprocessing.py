"""Pictures to the input of a model."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from inference_service.decoding import Levels

Interpolation = Literal["nearest", "bilinear", "bicubic"]
_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}

# torch resizes five times as fast as Pillow, and rounds otherwise. Where a picture shrinks by these factors or more
# the two are within one grey level, but for a pixel in millions (in 40 000 where JPEG has left blocks):
_FAST_BILINEAR = 1.5
_FAST_BICUBIC = 3.0

_TALL = 2.0
"""Pillow resizes the rows first, but the columns of pictures that are this much higher than wide."""

_LARGE = 2.0
"""Where this many pixels become one, a rounding error of one pixel is less than a grey level of the result."""


_LONG = 32
"""A picture that is this many times longer than wide is cut before it is resized: by itself one of a few bytes could
become one of gigabytes."""


_REACH = 2
"""How many pixels a bicubic filter takes to each side, and more where several become one; a bilinear one fewer."""


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

    scaled_decoding: bool = False
    """Let large JPEGs be decoded at a part of their size: faster, and some grey levels away."""

    normalizes: bool = True
    """Else it gives the grey levels in uint8, a quarter of the bytes to move to a GPU."""

    @property
    def min_side(self) -> int | None:
        """Return how small a picture may be decoded, in pixels; None where not smaller than it is."""
        return 2 * (self.resize_size or self.input_size + self.crop_padding) if self.scaled_decoding else None

    def __call__(self, picture: Image.Image | Levels) -> Tensor:
        """Return the float32 or uint8 [3, input_size, input_size] of a picture of any size: RGB, or uint8 [H, W, 3]."""
        levels = self._crop_then_resize(picture) if self.resize_size is None else self._resize_then_crop(picture)
        return self.normalize(levels) if self.normalizes else levels

    def normalize(self, levels: Tensor) -> Tensor:
        """Return the float32 of grey levels, [3, H, W] or [N, 3, H, W], on their device."""
        normalized = levels.to(torch.float32, memory_format=torch.contiguous_format)
        return normalized.sub_(_channels(self.mean, levels.device)).div_(_channels(self.std, levels.device))

    def seen_box(self, size: tuple[int, int]) -> tuple[float, float, float, float]:
        """Return left, top, right and bottom of what of a picture of `size` (width, height) is seen, in pixels."""
        width, height = size
        whole = self.resize_size or self.input_size + self.crop_padding
        side = min(1.0, self.input_size / whole) * min(size)
        left, top = (width - side) / 2, (height - side) / 2
        return left, top, left + side, top + side

    def _crop_then_resize(self, picture: Image.Image | Levels) -> Tensor:
        kept = self.input_size / (self.input_size + self.crop_padding)
        width, height = _size(picture)
        side = max(1, int(kept * min(width, height)))
        left, top = (width - side + 1) // 2, (height - side + 1) // 2
        if isinstance(picture, Image.Image):
            picture = picture.crop((left, top, left + side, top + side))
        else:
            picture = picture[top : top + side, left : left + side]
        size = (self.input_size, self.input_size)
        if self.interpolation == "bicubic" and side >= _FAST_BICUBIC * self.input_size:
            return _resize_fast(picture, size, "bicubic")
        return _levels(_image(picture).resize(size, _RESAMPLING[self.interpolation]))

    def _resize_then_crop(self, picture: Image.Image | Levels) -> Tensor:
        """Do as torchvision does, sizes and roundings included."""
        assert self.resize_size is not None
        short = min(_size(picture))
        width, height = (int(self.resize_size * side / short) for side in _size(picture))
        left, top = round((width - self.input_size) / 2), round((height - self.input_size) / 2)
        right, bottom = left + self.input_size, top + self.input_size
        scale = short / self.resize_size
        if self.interpolation == "bilinear" and scale >= _FAST_BILINEAR and height < _TALL * width:
            return _resize_fast(picture, (width, height), "bilinear")[:, top:bottom, left:right]
        image, resampling = _image(picture), _RESAMPLING[self.interpolation]
        is_long = max(width, height) > _LONG * min(width, height)
        if not is_long and (scale < _LARGE or image.height > image.width):
            return _levels(image.resize((width, height), resampling).crop((left, top, right, bottom)))
        # What would be cut off is up to half of the work. Pillow rounds these edges to 32 bits, and of a tall
        # picture it may resize the columns first, which it does not of a square.
        across, down = image.width / width, image.height / height
        box = (left * across, top * down, min(right * across, image.width), min(bottom * down, image.height))
        if image.height > image.width:
            image, box = _with_rows_resized(image, box, self.input_size, resampling)
        return _levels(image.resize((self.input_size, self.input_size), resampling, box=box))


def _resize_fast(picture: Image.Image | Levels, size: tuple[int, int], mode: Literal["bilinear", "bicubic"]) -> Tensor:
    """Return the uint8 [3, height, width] of a picture at `size` (width, height), antialiased."""
    width, height = size
    return interpolate(_levels(picture).unsqueeze(0), (height, width), mode=mode, antialias=True)[0]


def _with_rows_resized(
    image: Image.Image, box: tuple[float, float, float, float], width: int, resampling: Image.Resampling
) -> tuple[Image.Image, tuple[float, float, float, float]]:
    """Return what of `image` counts for `box`, its rows at `width`, as Pillow does it first; and the box in that."""
    left, top, right, bottom = box
    reach = math.ceil(_REACH * max(1.0, (bottom - top) / width)) + 1
    first, last = max(0, math.floor(top) - reach), min(image.height, math.ceil(bottom) + reach)
    rows = image.crop((0, first, image.width, last))
    rows = rows.resize((width, rows.height), resampling, box=(left, 0, right, rows.height))
    return rows, (0, top - first, width, bottom - first)


def _size(picture: Image.Image | Levels) -> tuple[int, int]:
    if isinstance(picture, Image.Image):
        return picture.size
    height, width, _ = picture.shape
    return width, height


def _image(picture: Image.Image | Levels) -> Image.Image:
    return picture if isinstance(picture, Image.Image) else Image.fromarray(picture)


def _levels(picture: Image.Image | Levels) -> Tensor:
    """Return the uint8 [3, H, W]."""
    return torch.from_numpy(np.array(picture) if isinstance(picture, Image.Image) else picture).permute(2, 0, 1)


def _channels(values: tuple[float, float, float], device: torch.device) -> Tensor:
    return torch.tensor(values, device=device).view(3, 1, 1)


def grey_levels(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the levels from 0 to 255 of a mean or a standard deviation that is given from 0 to 1."""
    red, green, blue = (255 * value for value in values)
    return red, green, blue
