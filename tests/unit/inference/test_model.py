"""What a model must do before it is served."""

import pytest
import torch
from inference_service.model import ModelUnavailable, batch_sizes
from torch import Tensor, nn

from tests.unit.inference.networks import tiny_model


class NotFinite(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3)) * torch.nan


class Sizes(nn.Module):
    """Keeps the sizes of its batches; fails on those that are larger than it was made for."""

    def __init__(self, largest: int = 100) -> None:
        super().__init__()
        self.largest = largest
        self.seen: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        if len(images) > self.largest:
            raise RuntimeError("too many\nand a long story")
        self.seen.append(len(images))
        return images.mean((2, 3))


@pytest.mark.parametrize(
    ("largest", "sizes"), [(1, (1,)), (2, (1, 2)), (6, (1, 2, 4, 6)), (8, (1, 2, 4, 8)), (9, (1, 2, 4, 8, 9))]
)
def test_the_sizes_that_are_tried_are_the_powers_of_two_and_the_largest(largest: int, sizes: tuple[int, ...]) -> None:
    assert batch_sizes(largest) == sizes


def test_a_warm_up_computes_a_batch_of_each_size_and_times_the_smallest_and_the_largest() -> None:
    network = Sizes()
    seconds = tiny_model(network).warm_up(6)
    assert network.seen == [1, 2, 4, 6, 1, 6]
    assert list(seconds) == [1, 6]
    assert all(value > 0 for value in seconds.values())


def test_a_network_that_fails_on_larger_batches_is_not_served() -> None:
    with pytest.raises(ModelUnavailable, match=r"fails on an input of \[4, 3, 8, 8\]: too many$"):
        tiny_model(Sizes(largest=3)).warm_up(8)


def test_a_network_with_other_classes_than_labels_is_not_served() -> None:
    with pytest.raises(ModelUnavailable, match=r"expected logits of \[1, 2\], and the network gives \[1, 3\]"):
        tiny_model(labels=("cat", "dog")).warm_up()


def test_a_network_without_finite_logits_is_not_served() -> None:
    with pytest.raises(ModelUnavailable, match="not finite"):
        tiny_model(NotFinite()).warm_up()


def test_half_precision_is_used_inside_only() -> None:
    model = tiny_model()
    half = type(model)(model.network, model.preprocessing, model.labels, "cpu", torch.bfloat16)
    logits = half.forward(torch.rand(2, 3, 8, 8))
    assert (half.dtype_name, logits.dtype, logits.shape) == ("bfloat16", torch.float32, (2, 3))
