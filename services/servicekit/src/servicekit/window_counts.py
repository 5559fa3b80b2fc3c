"""Counts of requests in this process, over a window that slides, in memory and time that have a bound."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

MAX_CALLERS = 100_000
"""Whose requests are counted, about 32 MB. Who was silent for longest is forgotten first, and counts from 0 again."""

FORGOTTEN_AT_ONCE = 2
"""Of those who do not count any more: more than a request adds, and few enough to go unnoticed."""


@dataclass(slots=True)
class _Counts:
    """The requests that one caller made in a window and in the one before it."""

    window: int
    current: int = 0
    previous: int = 0

    def in_window(self, window: int) -> tuple[int, int]:
        """Return how many were made in `window`, and in the one before it."""
        if window == self.window:
            return self.current, self.previous
        return 0, self.current if window == self.window + 1 else 0


class WindowCounts:
    """Lets each caller make `amount` requests in `seconds`.

    A request of the window before counts for as much as the sliding window still covers of that one.
    It costs the same however many callers there are: some have as many addresses as they like.
    """

    def __init__(self, amount: int, seconds: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._amount = amount
        self._seconds = seconds
        self._clock = clock
        self._counts: OrderedDict[str, _Counts] = OrderedDict()
        """The last to make a request stands last."""

    def __len__(self) -> int:
        """Return how many callers are remembered."""
        return len(self._counts)

    def hit(self, caller: str) -> int:
        """Count a request, and return 0 where it may go on, else the seconds until another may."""
        window, part = self._now()
        counts = self._counts.setdefault(caller, _Counts(window))
        counts.current, counts.previous = counts.in_window(window)
        counts.window = window
        self._counts.move_to_end(caller)
        self._forget(before=window - 1)
        wait_seconds = self._wait_seconds(counts, window, part)
        if not wait_seconds:
            counts.current += 1
        return wait_seconds

    def peek(self, caller: str) -> int:
        """Return what `hit` would, and count nothing."""
        counts = self._counts.get(caller)
        return 0 if counts is None else self._wait_seconds(counts, *self._now())

    def _now(self) -> tuple[int, float]:
        """Return the window of now, and how much of it is over."""
        windows = self._clock() / self._seconds
        return math.floor(windows), windows % 1

    def _wait_seconds(self, counts: _Counts, window: int, part: float) -> int:
        current, previous = counts.in_window(window)
        if current + previous * (1 - part) < self._amount:
            return 0
        # Until so little of the window before is covered that there is room, or until this one is the one before.
        covered = (self._amount - current) / previous if current < self._amount else 0.0
        return max(1, math.ceil((1 - part - covered) * self._seconds))

    def _forget(self, *, before: int) -> None:
        if len(self._counts) > MAX_CALLERS:
            self._counts.popitem(last=False)
        for _ in range(FORGOTTEN_AT_ONCE):
            if next(iter(self._counts.values())).window >= before:
                return
            self._counts.popitem(last=False)
