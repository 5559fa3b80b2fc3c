"""What a caller may send of a picture: its file, its pixels, or the input of the model."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from inference_service.decoding import decode_picture
from inference_service.errors import InvalidImage
from inference_service.preprocessing import Preprocessing
from inference_service.timings import StageTimings


class Picture(Protocol):
    """One picture on its way to a model."""

    @property
    def data(self) -> bytes | memoryview:
        """Return its bytes."""

    @property
    def kind(self) -> str:
        """Return what tells apart those with the same bytes."""

    def prepare(self, preprocessing: Preprocessing, timings: StageTimings, *, max_pixels: int) -> Tensor:
        """Return the input of the model, float32 [3, H, W]. To be called on a thread of the pool."""


@dataclass(frozen=True, slots=True)
class EncodedPicture:
    """The bytes of a file: PNG, JPEG, WebP or GIF."""

    data: bytes
    kind: str = "file"

    def prepare(self, preprocessing: Preprocessing, timings: StageTimings, *, max_pixels: int) -> Tensor:
        """Decode and preprocess.

        Raises:
            NotAnImage: it is in none of the formats that are decoded.
            InvalidImage: it cannot be decoded.
        """
        with timings.measure("decode"):
            picture = decode_picture(self.data, max_pixels=max_pixels, min_side=preprocessing.min_side)
        with timings.measure("preprocess"):
            return preprocessing(picture)


@dataclass(frozen=True, slots=True)
class Pixels:
    """Decoded pixels, uint8 [H, W, 3]: red, green, blue."""

    levels: NDArray[np.uint8]

    @property
    def data(self) -> memoryview:
        """Return the levels row by row."""
        return _bytes_of(self.levels)

    @property
    def kind(self) -> str:
        """Return the size: a tall picture may have the bytes of a wide one."""
        return f"pixels {self.levels.shape}"

    def prepare(self, preprocessing: Preprocessing, timings: StageTimings, *, max_pixels: int) -> Tensor:
        """Preprocess.

        Raises:
            InvalidImage: there is no pixel, or more than `max_pixels`.
        """
        height, width, _ = self.levels.shape
        if not 0 < height * width <= max_pixels:
            raise InvalidImage(f"expected 1 to {max_pixels} pixels, got {height} x {width}")
        with timings.measure("preprocess"):
            return preprocessing(Image.fromarray(self.levels))


@dataclass(frozen=True, slots=True)
class PreparedPicture:
    """The input of a model as the caller has made it, float32 [3, H, W]."""

    values: NDArray[np.float32]

    @property
    def kind(self) -> str:
        """Return the shape: one that is wrong may have the bytes of one that is right."""
        return f"input {self.values.shape}"

    @property
    def data(self) -> memoryview:
        """Return the values row by row."""
        return _bytes_of(self.values)

    def prepare(self, preprocessing: Preprocessing, timings: StageTimings, *, max_pixels: int) -> Tensor:
        """Take it as it is.

        Raises:
            InvalidImage: the size is not that of the model, or a value is no number.
        """
        side = preprocessing.input_size
        if self.values.shape != (3, side, side):
            raise InvalidImage(f"expected 3 x {side} x {side} values, got {' x '.join(map(str, self.values.shape))}")
        with timings.measure("preprocess"):
            if not np.isfinite(self.values).all():
                raise InvalidImage("a value is infinite or not a number")
            return torch.from_numpy(self.values.copy())


def _bytes_of(values: NDArray[Any]) -> memoryview:
    """Return the memory of an array: a copy of a large one would hold up the event loop."""
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
