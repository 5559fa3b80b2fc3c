"""What a model must do before it is served."""

import pytest
import torch
from inference_service.model import ModelUnavailable
from torch import Tensor, nn

from tests.unit.inference.networks import tiny_model


class NotFinite(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3)) * torch.nan


def test_a_warm_up_runs_the_network() -> None:
    tiny_model().warm_up()


def test_a_network_with_other_classes_than_labels_is_not_served() -> None:
    with pytest.raises(ModelUnavailable, match=r"expected 2 logits for a picture, got \[1, 3\]"):
        tiny_model(labels=("cat", "dog")).warm_up()


def test_a_network_without_finite_logits_is_not_served() -> None:
    with pytest.raises(ModelUnavailable, match="not finite"):
        tiny_model(NotFinite()).warm_up()


def test_half_precision_is_used_inside_only() -> None:
    model = tiny_model()
    half = type(model)(model.network, model.preprocessing, model.labels, "cpu", torch.bfloat16)
    logits = half.forward(torch.rand(2, 3, 8, 8))
    assert (half.dtype_name, logits.dtype, logits.shape) == ("bfloat16", torch.float32, (2, 3))
