"""Logits to named classes."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Prediction:
    """One class and how likely it is."""

    index: int
    label: str
    score: float


def top_predictions(logits: Tensor, labels: Sequence[str], top_k: int) -> list[Prediction]:
    """Return the `top_k` likeliest classes, best first, or all where there are fewer.

    `logits` is float32 [classes]. Scores are the softmax over all classes.
    """
    scores, indices = logits.softmax(0).topk(min(top_k, len(labels)))
    return [
        Prediction(index, labels[index], score) for index, score in zip(indices.tolist(), scores.tolist(), strict=True)
    ]
