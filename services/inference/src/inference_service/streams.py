"""The computing threads, as streams: one batch has all of them, or several run side by side with a part each.

The threads of a batch wait for each other at every layer, so that a picture that is decoded on the core of one holds
up all of them; a batch of one thread waits for nobody. So side by side more pictures are computed a second, and each
takes longer. OpenVINO has the same for the same reason, and the name is from there.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from inference_service.batch import Part


@dataclass(frozen=True, slots=True, eq=False)
class RunningBatch:
    """A batch that is computed."""

    parts: Sequence[Part]
    streams: int
    threads: int
    share: float
    """Of all the threads."""

    ends_at: float
    """When it is expected to end, by `time.perf_counter`."""


def default_streams(threads: int) -> int:
    """Return how many streams suit `threads` threads. A GPU computes one batch after the other."""
    return 1 if threads < 2 or torch.cuda.is_available() else 2


class Streams:
    """Up to `count` batches that run at the same time, on `threads` threads together."""

    def __init__(self, count: int, threads: int) -> None:
        self.count = count
        self._threads = threads
        self._running: set[RunningBatch] = set()

    @property
    def are_idle(self) -> bool:
        """Tell whether no batch runs."""
        return not self._running

    @property
    def are_taken(self) -> bool:
        """Tell whether no other batch can start now."""
        return sum(batch.streams for batch in self._running) == self.count

    @property
    def are_shared(self) -> bool:
        """Tell whether a batch that starts now has others beside it."""
        return any(batch.streams < self.count for batch in self._running)

    def start(self, parts: Sequence[Part], seconds: float, *, alone: bool) -> RunningBatch:
        """Note the start of a batch that is expected to take `seconds` with all threads.

        It has all threads where it is `alone` and no other runs; else those of one stream.
        """
        streams = self.count if alone and self.are_idle else 1
        share = streams / self.count
        threads = max(1, self._threads * streams // self.count)
        batch = RunningBatch(parts, streams, threads, share, time.perf_counter() + seconds / share)
        self._running.add(batch)
        return batch

    def end(self, batch: RunningBatch) -> None:
        """Note the end of a batch."""
        self._running.remove(batch)

    def seconds_left(self) -> float:
        """Return how long all threads would take for what is left of the batches that run."""
        now = time.perf_counter()
        return sum(max(0.0, batch.ends_at - now) * batch.share for batch in self._running)
