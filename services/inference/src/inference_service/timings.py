"""Where the time of one request goes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, Self, get_args

Stage = Literal["receive", "decode", "preprocess", "queue", "compute", "postprocess"]
STAGES: tuple[Stage, ...] = get_args(Stage)
"""In the order of a request. `queue` is all waiting for a thread: to decode and to compute."""


class StageTimings:
    """The seconds that one request has spent in each stage; threads may add to it."""

    def __init__(self) -> None:
        self._seconds: dict[Stage, float] = {}

    @contextmanager
    def measure(self, stage: Stage) -> Iterator[None]:
        """Add the time that the block takes, also where it fails."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - started)

    def add(self, stage: Stage, seconds: float) -> None:
        """Add to one stage."""
        self._seconds[stage] = self._seconds.get(stage, 0.0) + seconds

    def take_longest(self, *others: Self) -> None:
        """Make each stage as long as the longest, of what went on at the same time."""
        for other in others:
            for stage, seconds in other.seconds().items():
                self._seconds[stage] = max(seconds, self._seconds.get(stage, 0.0))

    def seconds(self) -> dict[Stage, float]:
        """Map each stage that was reached to its time."""
        return {stage: self._seconds[stage] for stage in STAGES if stage in self._seconds}

    def header(self) -> str:
        """Return the value of a `Server-Timing` header (W3C), whose unit is the millisecond."""
        return ", ".join(f"{stage};dur={seconds * 1000:.3f}" for stage, seconds in self.seconds().items())
