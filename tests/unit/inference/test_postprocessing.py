"""Logits to named classes."""

import pytest
import torch
from inference_service.postprocessing import top_predictions


def test_the_best_come_first_with_their_labels_and_softmax_scores() -> None:
    best = top_predictions(torch.tensor([0.0, 2.0, 1.0]), ("a", "b", "c"), 2)
    assert [(found.index, found.label) for found in best] == [(1, "b"), (2, "c")]
    assert [found.score for found in best] == pytest.approx([0.665241, 0.244728], abs=1e-6)


def test_more_than_there_are_is_all() -> None:
    assert len(top_predictions(torch.zeros(3), ("a", "b", "c"), 20)) == 3


def test_large_logits_do_not_overflow() -> None:
    assert top_predictions(torch.tensor([1e4, -1e4]), ("a", "b"), 1)[0].score == 1.0
