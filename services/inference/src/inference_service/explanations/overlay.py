"""A heat map over the picture that it is of."""

from io import BytesIO

import numpy as np
from PIL import Image
from torch import Tensor

from inference_service.decoding import decode
from inference_service.preprocessing import Preprocessing

MAX_SIDE = 1024
"""Longest side of what is drawn, in pixels."""

# Red, green and blue of the colour scale at these values.
_STOPS = (0.0, 0.35, 0.7, 1.0)
_COLOURS = ((38, 24, 120), (180, 40, 140), (250, 130, 50), (255, 240, 120))
_OPACITY = 0.65


def draw_overlay(data: bytes, saliency: Tensor, preprocessing: Preprocessing, *, max_pixels: int) -> bytes:
    """Return a PNG: the encoded picture `data`, upright, and over what the model saw of it the map [h, w].

    What is not warm is as it was. Raises as `decode` does.
    """
    picture = decode(data, max_pixels=max_pixels)
    seen = preprocessing.seen_box(picture.size)
    scale = min(1.0, MAX_SIDE / max(picture.size))
    picture = picture.resize([max(1, round(side * scale)) for side in picture.size])
    left, top, right, bottom = (round(edge * scale) for edge in seen)
    heat = Image.fromarray(saliency.numpy()).resize(
        (max(1, right - left), max(1, bottom - top)), Image.Resampling.BILINEAR
    )
    values = np.asarray(heat)
    colours = np.stack([np.interp(values, _STOPS, channel) for channel in zip(*_COLOURS, strict=True)], axis=-1)
    picture.paste(
        Image.fromarray(colours.astype(np.uint8)),
        (left, top),
        mask=Image.fromarray((values * _OPACITY * 255).astype(np.uint8)),
    )
    file = BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()
