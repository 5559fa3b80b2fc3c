"""One search for the mode of a model: what there is is timed, and the fastest is held against eager on pictures."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from inference_service.compute.agreement import LEAST, Agreement, compare, inputs
from inference_service.compute.cascade import learn
from inference_service.compute.cuda import ends_process
from inference_service.compute.modes import Measurement, Mode
from inference_service.model import Model, ModelUnavailable
from inference_service.weights import first_line

FASTER = 1.05
"""How many times as fast as eager a mode must be: less is within what two runs differ by."""

_RUNS = 3
_NO_TIME = "there was no time left"


class OutOfTime(Exception):
    """The budget of a search is used up."""


class Trial:
    """Eager first, then each candidate, then the fastest of them on the pictures.

    `in_mode` returns the model in a mode, with the margin where that is a cascade, or raises `ModelUnavailable`. A
    cascade is tried where its fast mode names other classes than eager.
    """

    def __init__(
        self,
        model: Model,
        max_batch_size: int,
        check_time: Callable[[], None],
        in_mode: Callable[[Mode, float | None], Model],
        accept: Callable[[Model], Model],
    ) -> None:
        self._model = model
        self._batch_size = max_batch_size
        self._check_time = check_time
        self._in_mode = in_mode
        self._accept = accept
        self._expected: Tensor | None = None
        self._measured: dict[Mode, Measurement] = {}
        self._cascades: list[Mode] = []
        self._margins: dict[Mode, float] = {}

    def best(self, modes: Mapping[Mode, str | None]) -> Model:
        """Return the model in the best of `modes`, which say what the machine lacks for each, or as it is."""
        self._measured[Mode.EAGER] = self._time(Mode.EAGER)
        self._cascades = [mode for mode, reason in modes.items() if mode.is_cascade and reason is None]
        not_refused = {cascade: f"{cascade.parts[0]} was not refused" for cascade in self._cascades}
        for mode, reason in {**modes, **not_refused}.items():
            self._measured[mode] = Measurement(mode=mode, reason=reason) if reason else self._time(mode)
        least = FASTER * self._speed(Mode.EAGER)
        left = set(modes)
        while left and self._speed(fastest := max(left, key=self._speed)) > least > 0:
            left.remove(fastest)
            if model := self._checked(fastest):
                return replace(model, measurements=tuple(self._measured.values()))
        return replace(self._model, measurements=tuple(self._measured.values()))

    def _speed(self, mode: Mode) -> float:
        return self._measured[mode].images_per_second or 0.0

    def _time(self, mode: Mode) -> Measurement:
        try:
            speed = images_per_second(self._in_mode(mode, None), self._batch_size, self._check_time)
            return Measurement(mode=mode, images_per_second=speed)
        except OutOfTime:
            return Measurement(mode=mode, reason=_NO_TIME)
        except ModelUnavailable as error:
            return Measurement(mode=mode, reason=str(error))
        except (RuntimeError, ValueError, TypeError, AssertionError) as error:
            if ends_process(error):  # nothing of it may be kept for a process that comes after
                raise
            # Programs may hold their tensors to a dtype.
            return Measurement(mode=mode, reason=f"it fails: {first_line(error)}")

    def _checked(self, mode: Mode) -> Model | None:
        """Return the model in `mode`, where it is as good as eager."""
        try:
            model = self._in_mode(mode, self._margins.get(mode))
            if not mode.is_cascade and not self._agrees(model):
                return None
            return self._accept(model)
        except OutOfTime:
            self._note(mode, reason=_NO_TIME)
        except ModelUnavailable as error:
            self._note(mode, reason=str(error))
        return None

    def _agrees(self, model: Model) -> bool:
        """Tell whether a model names the classes that eager does; if not, see what a cascade would do."""
        if self._expected is None:
            self._expected = logits_of_views(self._model, self._batch_size, self._check_time)
        found = logits_of_views(model, self._batch_size, self._check_time)
        if self._note_agreement(model.mode, compare(self._expected, found)):
            return True
        for cascade in self._cascades:
            if cascade.parts[0] is model.mode:
                self._consider(cascade, self._expected, found)
        return False

    def _consider(self, cascade: Mode, expected: Tensor, found: Tensor) -> None:
        """Let a cascade be a candidate, where it agrees: its speed is known from that of its parts."""
        fast, exact = map(self._speed, cascade.parts)
        if not exact:
            self._note(cascade, reason=f"there is no {cascade.parts[1]}")
            return
        learned = learn(expected, found)
        if not self._note_agreement(cascade, learned.agreement):
            return
        speed = 1 / (1 / fast + learned.recomputed / exact)
        if speed < FASTER * exact:  # for twice the weights
            self._note(cascade, recomputed=learned.recomputed, reason=f"it is hardly faster than {cascade.parts[1]}")
            return
        self._margins[cascade] = learned.margin
        self._note(cascade, images_per_second=speed, recomputed=learned.recomputed, reason=None)

    def _note_agreement(self, mode: Mode, agreement: Agreement) -> bool:
        """Return whether it is enough."""
        self._note(mode, agreement=agreement.top1, score_difference=agreement.score_difference)
        if agreement.top1 < LEAST:
            self._note(mode, reason=f"it agrees on fewer than {LEAST:.1%} of the pictures")
        return agreement.top1 >= LEAST

    def _note(self, mode: Mode, **found: object) -> None:
        self._measured[mode] = self._measured[mode].model_copy(update=found)


def images_per_second(model: Model, batch_size: int, check_time: Callable[[], None] = lambda: None) -> float:
    """Measure a few batches of random pictures, and take the fastest: other work slows the others."""
    side = model.preprocessing.input_size
    images = torch.rand(batch_size, 3, side, side)
    seconds = []
    for _ in range(1 + _RUNS):
        check_time()
        started = time.perf_counter()
        model.forward(images)
        seconds.append(time.perf_counter() - started)
    return batch_size / min(seconds[1:])


def logits_of_views(model: Model, batch_size: int, check_time: Callable[[], None] = lambda: None) -> Tensor:
    """Return the logits, float32 [N, classes], of the views that modes are compared on."""
    logits = []
    for batch in inputs(model, batch_size):
        check_time()
        logits.append(model.forward(batch))
    return torch.cat(logits)
