"""How long callers wait who do not say it, learnt from those who have left."""

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from inference_service.errors import DeadlineExceeded

_STILL_THERE = 0.5
"""The share of the callers who are to be there still when their answer comes."""

_LEAST_AT_RISK = 8.0
"""With fewer callers who have waited for so long nothing is concluded: one who closes a page says little of others."""

_HALF_LIFE_SECONDS = 30.0
"""After so long what was seen has half of its weight: callers change."""

_SHORTEST, _STEPS_PER_DOUBLING, _BUCKETS = 0.5, 4, 38
"""Times are told apart in steps of a fifth, up to six minutes. Who leaves within half a second speaks for nobody else:
a page that is closed, or a limit that nothing could keep to."""


class Patience:
    """Follows how long callers wait for an answer.

    Of who was answered only that time is known, and that they would have waited longer: so the share that is still
    there after a time is estimated as Kaplan and Meier do (1958, doi:10.2307/2281868), over buckets of time.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._at = clock()
        self._left = [0.0] * _BUCKETS
        self._stayed = [0.0] * _BUCKETS

    @contextmanager
    def following(self) -> Iterator[None]:
        """Take in the caller whom the block answers: one who leaves cancels it."""
        started = self._clock()
        try:
            yield
        except asyncio.CancelledError:
            self.left(self._clock() - started)
            raise
        except DeadlineExceeded:
            self.stayed(self._clock() - started)
            raise
        self.stayed(self._clock() - started)

    def left(self, seconds: float) -> None:
        """Take in a caller who has left after so long."""
        self._add(self._left, seconds)

    def stayed(self, seconds: float) -> None:
        """Take in a caller who was still there after so long."""
        self._add(self._stayed, seconds)

    @property
    def seconds(self) -> float:
        """Return the time after which fewer than half are there; infinite where they are not known to leave."""
        self._fade()
        at_risk = sum(self._left) + sum(self._stayed)
        still_there = 1.0
        for bucket, (left, stayed) in enumerate(zip(self._left, self._stayed, strict=True)):
            if at_risk < _LEAST_AT_RISK:
                break
            still_there *= 1 - left / at_risk
            if still_there < _STILL_THERE:
                return _SHORTEST * 2 ** (bucket / _STEPS_PER_DOUBLING)
            at_risk -= left + stayed
        return math.inf

    def _add(self, counts: list[float], seconds: float) -> None:
        if seconds >= _SHORTEST:
            self._fade()
            bucket = int(math.log2(seconds / _SHORTEST) * _STEPS_PER_DOUBLING)
            counts[min(bucket, _BUCKETS - 1)] += 1

    def _fade(self) -> None:
        elapsed = self._clock() - self._at
        if elapsed < 1:
            return
        self._at += elapsed
        weight = 0.5 ** (elapsed / _HALF_LIFE_SECONDS)
        for counts in (self._left, self._stayed):
            counts[:] = [count * weight for count in counts]
