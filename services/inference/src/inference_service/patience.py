"""How long callers wait who do not say it, learnt from those who have left."""

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from inference_service.errors import DeadlineExceeded

_STILL_THERE = 0.9
"""The share of the callers who are to be there still when their answer comes."""

_LEAST_AT_RISK = 8.0
"""Of fewer who have waited for so long nothing is concluded: one who closes a page says little of others."""

_HALF_LIFE_SECONDS = 30.0
"""In which what was seen loses half of its weight: callers change, and where nobody leaves nothing new is learnt."""

_SHORTEST, _STEPS_PER_DOUBLING, _BUCKETS = 0.05, 4, 52
"""Times are told apart in steps of a fifth, from 50 ms to six minutes."""


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
        self._fade()
        self._left[_bucket(seconds)] += 1

    def stayed(self, seconds: float) -> None:
        """Take in a caller who was still there after so long."""
        self._fade()
        self._stayed[_bucket(seconds)] += 1

    @property
    def seconds(self) -> float:
        """Return the time after which fewer than nine in ten are there; infinite where they are not known to leave."""
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

    def _fade(self) -> None:
        elapsed = self._clock() - self._at
        if elapsed < 1:
            return
        self._at += elapsed
        weight = 0.5 ** (elapsed / _HALF_LIFE_SECONDS)
        self._left = [count * weight for count in self._left]
        self._stayed = [count * weight for count in self._stayed]


def _bucket(seconds: float) -> int:
    """Return the bucket of a time, which begins at `_SHORTEST * 2 ** (bucket / _STEPS_PER_DOUBLING)`."""
    if seconds <= _SHORTEST:
        return 0
    return min(int(math.log2(seconds / _SHORTEST) * _STEPS_PER_DOUBLING), _BUCKETS - 1)
