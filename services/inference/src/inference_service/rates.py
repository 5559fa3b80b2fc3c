"""How often each caller may ask: token buckets in this process."""

import math
import time
from collections import OrderedDict
from dataclasses import dataclass

from inference_service.errors import TooManyRequests
from inference_service.metrics import InferenceMetrics

MAX_CALLERS = 100_000
"""Whom it remembers. Who was silent for longest is forgotten first, and has a full bucket again."""


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_at: float


class RateLimiter:
    """Lets each caller ask `per_second` times a second in the long run, and `burst` times at once.

    Without `per_second` there is no limit. Every process counts for itself.
    """

    def __init__(self, per_second: float | None, burst: int, metrics: InferenceMetrics) -> None:
        self._per_second = per_second
        self._burst = burst
        self._metrics = metrics
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, subject: str) -> None:
        """Count one request of a caller.

        Raises:
            TooManyRequests: it is one too many; it says when the next may come.
        """
        if self._per_second is None:
            return
        now = time.monotonic()
        bucket = self._buckets.setdefault(subject, _Bucket(self._burst, now))
        self._buckets.move_to_end(subject)
        if len(self._buckets) > MAX_CALLERS:
            self._buckets.popitem(last=False)
        bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.filled_at) * self._per_second)
        bucket.filled_at = now
        if bucket.tokens < 1:
            self._metrics.rejected("rate")
            wait = math.ceil((1 - bucket.tokens) / self._per_second)
            raise TooManyRequests(self._per_second, retry_after_seconds=wait)
        bucket.tokens -= 1
