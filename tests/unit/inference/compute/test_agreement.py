"""Real pictures, and how the answers of two models to them are compared."""

import pytest
import torch
from inference_service.compute.agreement import PICTURES, compare, inputs, views

from tests.unit.inference.networks import tiny_model


def test_the_set_has_more_than_two_hundred_views_of_real_pictures() -> None:
    found = list(views())
    assert len(PICTURES) == 8
    assert len(found) == 208
    assert all(view.mode == "RGB" and view.width == view.height >= 100 for view in found)
    assert len({view.tobytes() for view in found}) == 208


def test_the_inputs_are_those_of_the_model_in_batches() -> None:
    batches = list(inputs(tiny_model(), 10, PICTURES[:1]))
    assert [tuple(batch.shape) for batch in batches] == [(10, 3, 8, 8), (10, 3, 8, 8), (6, 3, 8, 8)]


def test_what_agrees_is_the_first_class_and_the_scores_may_differ() -> None:
    expected = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 1.0], [0.5, 0.4]])
    found = torch.tensor([[2.1, 0.0], [0.0, 1.0], [3.0, 1.0], [0.4, 0.5]])
    agreement = compare(expected, found)
    assert agreement.top1 == pytest.approx(0.75)
    assert agreement.score_difference == pytest.approx(0.05, abs=1e-3)
