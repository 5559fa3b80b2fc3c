"""Logits to named classes."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from inference_service.errors import InferenceFailed


@dataclass(frozen=True, slots=True)
class Prediction:
    """One class and how likely it is."""

    index: int
    label: str
    score: float


def finite(numbers: Tensor) -> Tensor:
    """Return what a model gives for a picture.

    Raises:
        InferenceFailed: some of it is infinite or no number, as where a dtype is too narrow for the values in between.
    """
    if not torch.isfinite(numbers).all():
        raise InferenceFailed("the model gives no finite numbers for a picture")
    return numbers


def top_predictions(logits: Tensor, labels: Sequence[str], top_k: int) -> list[Prediction]:
    """Return the `top_k` likeliest classes, best first, or all where there are fewer.

    `logits` is float32 [classes]. Scores are the softmax over all classes.
    """
    scores, indices = logits.softmax(0).topk(min(top_k, len(labels)))
    return [
        Prediction(index, labels[index], score) for index, score in zip(indices.tolist(), scores.tolist(), strict=True)
    ]
