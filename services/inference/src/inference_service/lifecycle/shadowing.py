"""Shows pictures that were answered to another version as well, and counts where the two disagree."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from servicekit.logs import get_logger
from servicekit.problem import Problem
from torch import Tensor

from inference_service.errors import DeadlineExceeded, ModelNotReady, Overloaded, ShuttingDown
from inference_service.lifecycle.registry import ModelRegistry, ServedModel
from inference_service.lifecycle.rollout import shadow_of
from inference_service.metrics import Comparison, InferenceMetrics
from inference_service.pictures import Picture

MOST_WAITING = 4
"""Pictures kept for a shadow; they are in memory beside the bodies of requests."""

log = get_logger(__name__)


class Shadows:
    """Compares the answers of stable versions with those of their shadows. Nobody waits for it.

    `chance` returns a number from 0 to under 1 for each answer.
    """

    def __init__(
        self, models: ModelRegistry, metrics: InferenceMetrics, *, chance: Callable[[], float] = random.random
    ) -> None:
        self._models = models
        self._metrics = metrics
        self._chance = chance
        self._waiting: asyncio.Queue[_Answered] = asyncio.Queue(MOST_WAITING)

    def follow(self, served: ServedModel, labels: tuple[str, ...], picture: Picture, logits: Tensor) -> None:
        """Take note of an answer, logits [classes] with the names `labels`; it is dropped where too many wait."""
        shadow = shadow_of(self._models, served)
        if shadow is None or not shadow.shadow or self._chance() * 100 >= shadow.shadow:
            return
        try:
            self._waiting.put_nowait(_Answered(shadow, picture, labels[int(logits.argmax())]))
        except asyncio.QueueFull:
            self._metrics.compared(served.source.name, "dropped")

    async def run(self, compute: Callable[[Picture, ServedModel], Awaitable[Tensor]]) -> None:
        """Compare one after the other, until it is cancelled. `compute` returns the logits [classes] of a picture."""
        while True:
            answered = await self._waiting.get()
            outcome = await self._compare(answered, compute)
            self._metrics.compared(answered.shadow.source.name, outcome)

    async def _compare(
        self, answered: "_Answered", compute: Callable[[Picture, ServedModel], Awaitable[Tensor]]
    ) -> Comparison:
        shadow = answered.shadow
        if not (shadow.shadow and shadow.model):
            return "dropped"
        labels = shadow.model.labels
        try:
            logits = await compute(answered.picture, shadow)
        except (Overloaded, ShuttingDown, DeadlineExceeded, ModelNotReady):
            return "dropped"
        except Problem:  # a failed batch is logged where it failed
            return "failed"
        except Exception:  # whatever it is, it must not end the comparing
            log.exception("shadow_failed", model=shadow.source.name, version=shadow.source.version)
            return "failed"
        return "agree" if labels[int(logits.argmax())] == answered.label else "disagree"


class _Answered(NamedTuple):
    """A picture with the label that its caller was given, and who is to see it."""

    shadow: ServedModel
    picture: Picture
    label: str
