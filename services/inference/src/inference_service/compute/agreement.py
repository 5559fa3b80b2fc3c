"""Whether two ways to compute a model name the same classes, on real pictures and parts of them."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image, ImageOps
from torch import Tensor

from inference_service.model import Model

LEAST = 0.995
"""The share of the pictures whose likeliest class must be that of the eager model."""

_PACKAGE = Path(__file__).parent.parent
PICTURES = (*sorted((_PACKAGE / "real_pictures").glob("*.jpg")), *sorted((_PACKAGE / "web").glob("sample-*.jpg")))

_CROPS = (
    (0.5, 0.5, 1.0),
    *((x, y, 0.8) for x, y in ((0, 0), (0, 1), (1, 0), (1, 1), (0.5, 0.5))),
    *((x, y, 0.6) for x, y in ((0, 0), (0, 1), (1, 0), (1, 1), (0.5, 0.5))),
    (0.4, 0.6, 0.7),
    (0.5, 0.5, 0.45),
)
"""Squares: how far to the right and down they lie, from 0 to 1, and their share of the short side."""

VIEWS_OF_A_PICTURE = 2 * len(_CROPS)


class Agreement(NamedTuple):
    """How far the answers of two models are apart."""

    top1: float
    """The share of pictures for which the likeliest class is the same."""

    score_difference: float
    """The largest difference of a score."""


def views(pictures: Sequence[Path] = PICTURES) -> Iterator[Image.Image]:
    """Yield parts of each picture at several scales, each of them mirrored too: 26 a picture."""
    for path in pictures:
        with Image.open(path) as file:
            picture = file.convert("RGB")
        for x, y, share in _CROPS:
            side = max(1, round(share * min(picture.size)))
            left, top = round(x * (picture.width - side)), round(y * (picture.height - side))
            view = picture.crop((left, top, left + side, top + side))
            yield view
            yield ImageOps.mirror(view)


def inputs(model: Model, batch_size: int, pictures: Sequence[Path] = PICTURES) -> Iterator[Tensor]:
    """Yield the views as batches of the model's inputs, float32 [N, 3, H, W], N up to `batch_size`."""
    batch: list[Tensor] = []
    for view in views(pictures):
        batch.append(model.preprocessing(view))
        if len(batch) == batch_size:
            yield torch.stack(batch)
            batch = []
    if batch:
        yield torch.stack(batch)


def compare(expected: Tensor, found: Tensor) -> Agreement:
    """Compare the logits, float32 [N, classes], of the same pictures."""
    same = expected.argmax(1) == found.argmax(1)
    difference = (expected.softmax(1) - found.softmax(1)).abs().max()
    return Agreement(float(same.float().mean()), float(difference))
