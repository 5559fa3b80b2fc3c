"""Whether the model threads go on: they may be busy for long, and must not stand still, nor lose their GPU."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from servicekit.logs import get_logger

from inference_service.compute.cuda import ends_process
from inference_service.weights import first_line

MOST_STALLS = 10
"""A batch that takes this many times the time of a stall is none that will end, however busy it is."""

log = get_logger(__name__)


class Heartbeat:
    """Watches what the model threads do: a beat is a batch that starts or ends, or CPU time that is used."""

    def __init__(self, stall_seconds: float) -> None:
        self._stall_seconds = stall_seconds
        self._batches: set[_Batch] = set()
        self._lost: str | None = None

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Surround a batch; to be called on its model thread."""
        batch = _Batch()
        self._batches.add(batch)
        try:
            with self.gpu_use():
                yield
        finally:
            self._batches.remove(batch)

    @contextmanager
    def gpu_use(self) -> Iterator[None]:
        """Surround what may use a GPU for minutes: only that a GPU is lost counts."""
        try:
            yield
        except Exception as error:
            if ends_process(error) and self._lost is None:
                self._lost = f"a GPU is lost until this process is started anew: {first_line(error)}"
                log.error("gpu_lost", reason=self._lost)  # noqa: TRY400 what failed is logged with its traceback
            raise

    def stalled(self) -> str | None:
        """Return why a thread counts as stuck, or None. CPU time is looked at when this is called."""
        if self._lost:
            return self._lost
        now = time.monotonic()
        for batch in self._batches.copy():
            batch.look(now)
            if now - batch.beat_at > self._stall_seconds:
                return f"the model thread has stood still for {now - batch.beat_at:.0f} s"
            if now - batch.started_at > MOST_STALLS * self._stall_seconds:
                return f"a batch has not ended for {now - batch.started_at:.0f} s"
        return None


class _Batch:
    """What is known of the batch that runs."""

    def __init__(self) -> None:
        self.started_at = self.beat_at = time.monotonic()
        # Elsewhere than on Linux a thread's time cannot be read, and a long batch is a stuck one.
        self._clock = time.pthread_getcpuclockid(threading.get_ident()) if sys.platform == "linux" else None
        self._cpu_seconds = self._read_clock()

    def look(self, now: float) -> None:
        """Take a beat where CPU time was used since the last look."""
        cpu_seconds = self._read_clock()
        if cpu_seconds > self._cpu_seconds:
            self._cpu_seconds, self.beat_at = cpu_seconds, now

    def _read_clock(self) -> float:
        return 0.0 if self._clock is None else time.clock_gettime(self._clock)
