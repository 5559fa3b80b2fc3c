"""How often each caller may ask: counted in this process, or in Redis for all replicas."""

import math
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from servicekit.telemetry import Telemetry

from inference_service.errors import TooManyRequests
from inference_service.metrics import InferenceMetrics
from inference_service.settings import InferenceSettings

if TYPE_CHECKING:
    from servicekit.rate_limits import RateLimit

MAX_CALLERS = 100_000
"""Whom it remembers. Who was silent for longest is forgotten first, and has a full bucket again."""


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_at: float


class RateLimiter:
    """Lets each caller ask `per_second` times a second in the long run, and `burst` times at once.

    Without `per_second` there is no limit. With `shared` all replicas count together, else each process by itself.
    """

    def __init__(
        self, per_second: float | None, burst: int, metrics: InferenceMetrics, shared: "RateLimit | None" = None
    ) -> None:
        self._per_second = per_second
        self._burst = burst
        self._metrics = metrics
        self._shared = shared
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    async def take(self, subject: str) -> None:
        """Count one request of a caller.

        Raises:
            TooManyRequests: it is one too many; it says when the next may come.
        """
        if self._per_second is None:
            return
        if self._shared is None:
            wait = self._take_token(subject, self._per_second)
        else:
            wait = await self._shared.hit(subject)
        if wait:
            self._metrics.rejected("rate")
            raise TooManyRequests(self._per_second, retry_after_seconds=wait)

    def _take_token(self, subject: str, per_second: float) -> int:
        """Return 0 where a token was there, else the seconds until one is."""
        now = time.monotonic()
        bucket = self._buckets.setdefault(subject, _Bucket(self._burst, now))
        self._buckets.move_to_end(subject)
        if len(self._buckets) > MAX_CALLERS:
            self._buckets.popitem(last=False)
        bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.filled_at) * per_second)
        bucket.filled_at = now
        if bucket.tokens < 1:
            return math.ceil((1 - bucket.tokens) / per_second)
        bucket.tokens -= 1
        return 0


@asynccontextmanager
async def open_rate_limiter(
    settings: InferenceSettings, metrics: InferenceMetrics, telemetry: Telemetry
) -> AsyncIterator[RateLimiter]:
    """Yield what counts the requests of each caller."""
    per_second, burst = settings.requests_per_second, settings.requests_burst
    if per_second is None or settings.rate_limit_redis_url is None:
        yield RateLimiter(per_second, burst, metrics)
        return
    # Here, as few need them: they take 8 MB and a part of the start.
    from limits import RateLimitItemPerSecond
    from servicekit.rate_limits import open_rate_limit

    amount, seconds = window(per_second, burst)
    async with open_rate_limit(settings, RateLimitItemPerSecond, amount, times=seconds, telemetry=telemetry) as shared:
        yield RateLimiter(per_second, burst, metrics, shared)


def window(per_second: float, burst: int) -> tuple[int, int]:
    """Return a limit in whole numbers, as requests and seconds: about `per_second`, and `burst` of them at once.

    Where `per_second` is more than `burst`, all requests of a second may come at once.
    """
    seconds = math.ceil(burst / per_second)
    return max(1, math.floor(per_second * seconds)), seconds
