"""Pictures that are computed once more: those whose class is open, and no others."""

import pytest
import torch
from inference_service.compute.agreement import VIEWS_OF_A_PICTURE
from inference_service.compute.cascade import Cascade, learn, margins
from torch import Tensor, nn


class Means(nn.Module):
    """Gives the means of the channels, plus a number, and keeps what it was asked for."""

    def __init__(self, plus: float = 0.0) -> None:
        super().__init__()
        self.plus = plus
        self.asked: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.asked.append(images)
        return images.mean((2, 3)) + self.plus


def pictures(*means: tuple[float, float, float]) -> Tensor:
    return torch.tensor(means)[:, :, None, None].expand(-1, -1, 4, 4).contiguous(memory_format=torch.channels_last)


def test_the_margin_is_that_of_the_first_two_classes() -> None:
    found = margins(torch.tensor([[1.0, 4.0, 3.5], [2.0, 2.0, 0.0]]))
    assert found.tolist() == [0.5, 0.0]
    assert margins(torch.ones(2, 1)).tolist() == [0.0, 0.0]


def test_only_what_is_close_is_computed_again_and_in_its_place() -> None:
    fast, exact = Means(), Means(plus=100.0)
    images = pictures((1, 2, 4), (2, 2.25, 1), (8, 2, 4), (3, 3, 3))
    cascade = Cascade(fast, exact, margin=0.25)
    logits = cascade(images)
    assert logits.tolist() == [[1, 2, 4], [102, 102.25, 101], [8, 2, 4], [103, 103, 103]]
    [again] = exact.asked
    assert again.equal(images[[1, 3]])
    assert again.is_contiguous(memory_format=torch.channels_last)
    assert [cascade.take_recomputed() for _ in range(2)] == [2, 0]
    assert [given.dtype for given in (*fast.asked, *exact.asked)] == [torch.bfloat16, torch.float32]


def test_a_batch_with_nothing_close_is_computed_once() -> None:
    exact = Means()
    logits = Cascade(Means(), exact, margin=0.25)(pictures((1, 2, 4), (8, 2, 4)))
    assert (exact.asked, logits.dtype) == ([], torch.float32)


def views(exact_margin: Tensor, error: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits of two classes by their difference, exact and with an error."""
    none = torch.zeros_like(error)
    return torch.stack([exact_margin, none], 1), torch.stack([exact_margin + error, none], 1)


def test_the_margin_learnt_is_twice_the_error_and_what_it_covers_agrees() -> None:
    torch.manual_seed(0)
    count = 8 * VIEWS_OF_A_PICTURE
    exact, fast = views(4 * torch.randn(count), 0.1 * torch.randn(count))
    learned = learn(exact, fast)
    assert 0.17 < learned.margin < 0.25
    assert 0 < learned.recomputed < 0.1
    assert learned.agreement.top1 == 1.0


def test_a_class_that_was_wrong_far_from_the_others_widens_the_margin() -> None:
    count = 8 * VIEWS_OF_A_PICTURE
    exact, fast = views(torch.full((count,), 4.0), torch.zeros(count))
    fast[0] = torch.tensor([0.0, 3.0])
    assert learn(exact, fast).margin == 3.0


def test_what_is_wrong_about_one_picture_alone_does_not_count_as_known() -> None:
    """The margin that a picture is held to is that of the others: else whatever is wrong would be within it."""
    count = 8 * VIEWS_OF_A_PICTURE
    exact, fast = views(torch.full((count,), 4.0), torch.zeros(count))
    fast[:3] = torch.tensor([0.0, 3.0])
    learned = learn(exact, fast)
    assert learned.margin >= 3.0
    assert learned.agreement.top1 == pytest.approx(1 - 3 / count)
