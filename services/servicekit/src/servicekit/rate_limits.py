"""Limits on requests from one caller or address: counted in Redis for all replicas, or in this process."""

import contextlib
import hashlib
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from limits import RateLimitItem
from limits.aio.storage import RedisStorage
from limits.aio.storage.redis.redispy import RedispyBridge
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from servicekit.addresses import network_of
from servicekit.logs import get_logger
from servicekit.settings import RateLimitSettings
from servicekit.telemetry import Telemetry
from servicekit.window_counts import WindowCounts

REDIS_TIMEOUT_SECONDS = 0.1
REDIS_RETRY_SECONDS = 1.0
"""How long a Redis that failed is not asked: a request would wait for it in vain."""

log = get_logger(__name__)

_Method = Callable[..., Awaitable[bool]]
"""Of a limiter: it counts a request or only looks, and tells whether one may go on."""

_OwnMethod = Callable[[WindowCounts, str], int]
"""The same of this process's own counts. The library's sweep all callers at each request, and have no bound."""


class RateLimit:
    """One limit, over a window that slides. While Redis is away, this process counts by itself."""

    def __init__(self, item: RateLimitItem | None, redis: RedisStorage | None) -> None:
        """Take what is allowed; with None that is everything."""
        self._item = item
        self._own = None if item is None else WindowCounts(item.amount, item.get_expiry())
        self._shared = None if redis is None else SlidingWindowCounterRateLimiter(redis)
        self._away_until = float("-inf")

    async def hit(self, who: str) -> int:
        """Count a request, and return 0 where it may go on, else the seconds until another may.

        `who` is the subject of a caller or an address, which counts as its network.
        """
        return await self._ask(who, SlidingWindowCounterRateLimiter.hit, WindowCounts.hit)

    async def peek(self, who: str) -> int:
        """Return what `hit` would, and count nothing."""
        return await self._ask(who, SlidingWindowCounterRateLimiter.test, WindowCounts.peek)

    async def _ask(self, who: str, method: _Method, own_method: _OwnMethod) -> int:
        if self._item is None or self._own is None:
            return 0
        # Redis may be everybody's: it learns nobody's address or name.
        key = hashlib.sha256(network_of(who).encode()).hexdigest()[:32]
        if self._shared is not None and time.monotonic() >= self._away_until:
            try:
                return await _wait_seconds(self._shared, method, self._item, key)
            except (RedisError, OSError) as error:
                self._away_until = time.monotonic() + REDIS_RETRY_SECONDS
                log.warning("rate_limits_are_away", error=type(error).__name__)
        return own_method(self._own, key)


async def _wait_seconds(
    limiter: SlidingWindowCounterRateLimiter, method: _Method, item: RateLimitItem, key: str
) -> int:
    if await method(limiter, item, key):
        return 0
    stats = await limiter.get_window_stats(item, key)
    return max(1, math.ceil(stats.reset_time - time.time()))


@contextlib.asynccontextmanager
async def open_rate_limit(
    settings: RateLimitSettings, item: type[RateLimitItem], amount: int, *, times: int = 1, telemetry: Telemetry
) -> AsyncIterator[RateLimit]:
    """Yield the limit of `amount` requests in so many `times` of `item`; 0 is no limit."""
    limit = item(amount, times, namespace=f"pinhole:{settings.service}") if amount else None
    url = settings.rate_limit_redis_url
    if url is None:
        yield RateLimit(limit, None)
        return
    pool = ConnectionPool.from_url(
        url.get_secret_value(),
        socket_timeout=REDIS_TIMEOUT_SECONDS,
        socket_connect_timeout=REDIS_TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
    try:
        redis = RedisStorage(
            "async+redis://",  # where it is, the pool knows
            implementation="redispy",
            connection_pool=pool,  # type: ignore[arg-type]  # documented, and not in its types
        )
        assert isinstance(redis.bridge, RedispyBridge)
        telemetry.watch_redis(redis.bridge.storage)
        yield RateLimit(limit, redis)
    finally:
        await pool.aclose()
