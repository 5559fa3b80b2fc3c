"""A cascade: each picture is computed the fast way, and once more the exact way where that leaves its class open.

Both are the same network. What decides is the margin between the two highest logits, as in the cascades of Wang
et al., "IDK Cascades: Fast Deep Learning by Learning not to Overthink" (arXiv:1706.00885).
"""

from threading import Lock
from typing import NamedTuple

import torch
from torch import Tensor, nn

from inference_service.compute.agreement import LEAST, VIEWS_OF_A_PICTURE, Agreement, compare

_DEVIATIONS = (2.0, 3.0, 4.0)
"""The margin in standard deviations of its error. Were that normal, 2 would leave one wrong class of 47, 3 of 1044."""


class Cascade(nn.Module):
    """Computes inputs with `fast`, in bfloat16, and again with `exact` where the margin is no more than `margin`."""

    def __init__(self, fast: nn.Module, exact: nn.Module, margin: float) -> None:
        super().__init__()
        self.fast = fast
        self.exact = exact
        self.margin = margin
        self._recomputed = 0
        self._counting = Lock()

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, float32 [N, classes], of inputs [N, 3, H, W]."""
        logits: Tensor = self.fast(images.to(torch.bfloat16)).float()
        close = (margins(logits) <= self.margin).nonzero().flatten()
        if len(close):
            again = images[close].contiguous(memory_format=torch.channels_last)
            logits[close] = self.exact(again).float()
            with self._counting:  # several threads may compute at once
                self._recomputed += len(close)
        return logits

    def take_recomputed(self) -> int:
        """Return how many inputs were computed twice since this was asked last."""
        with self._counting:
            recomputed, self._recomputed = self._recomputed, 0
        return recomputed


class Learned(NamedTuple):
    """What a cascade does to pictures whose logits are known."""

    margin: float
    recomputed: float
    """The share of the pictures within the margin."""

    agreement: Agreement
    """Of the whole cascade, each picture computed with the margin that is learnt from the others alone."""


def margins(logits: Tensor) -> Tensor:
    """Return by how much the highest of the logits [N, classes] is above the next, [N]."""
    highest = logits.topk(min(2, logits.shape[1]), dim=1).values
    return highest[:, 0] - highest[:, -1]


def learn(exact: Tensor, fast: Tensor) -> Learned:
    """Return the margin for two ways to compute, by their logits [N, classes] of the views of several pictures.

    It is the least multiple in `_DEVIATIONS` of the error of the margin (root mean square) with which the answers
    agree, and no less than the widest margin with which `fast` names a wrong class.
    """
    for deviations in _DEVIATIONS:
        margin = _margin(exact, fast, deviations)
        answers = []
        for view in range(0, len(exact), VIEWS_OF_A_PICTURE):
            of_it = torch.zeros(len(exact), dtype=torch.bool)
            of_it[view : view + VIEWS_OF_A_PICTURE] = True
            is_close = margins(fast[of_it]) <= _margin(exact[~of_it], fast[~of_it], deviations)
            answers.append(torch.where(is_close.unsqueeze(1), exact[of_it], fast[of_it]))
        recomputed = float((margins(fast) <= margin).float().mean())
        learned = Learned(margin, recomputed, compare(exact, torch.cat(answers)))
        if learned.agreement.top1 >= LEAST:
            break
    return learned


def _margin(exact: Tensor, fast: Tensor, deviations: float) -> float:
    first, second = fast.topk(min(2, fast.shape[1]), dim=1).indices.T[[0, -1]].unsqueeze(2)
    error = (exact.gather(1, first) - exact.gather(1, second)).flatten() - margins(fast)
    is_wrong = exact.argmax(1) != fast.argmax(1)
    widest_wrong = margins(fast)[is_wrong].max() if is_wrong.any() else 0.0
    return max(deviations * float(error.square().mean().sqrt()), float(widest_wrong))
