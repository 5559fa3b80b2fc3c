"""Answers that were computed before: in the memory of this process, or in Redis."""

import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

import torch
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from servicekit.logs import get_logger
from servicekit.telemetry import Telemetry
from torch import Tensor

from inference_service.executors import run_by_size
from inference_service.metrics import InferenceMetrics
from inference_service.settings import InferenceSettings

REDIS_PREFIX = "pinhole:logits:"
REDIS_TIMEOUT_SECONDS = 0.1
REDIS_RETRY_SECONDS = 1.0
"""How long a Redis that failed is not asked for the same: a request would wait for it in vain."""

_ENTRY_OVERHEAD_BYTES = 256
"""What an entry takes beside its value: its key, its objects, its share of the table."""

log = get_logger(__name__)


class Store(Protocol):
    """Values by key, each for some time. It may lose any, and never fails."""

    async def get(self, key: str) -> bytes | str | None:
        """Return a value, or None."""

    async def put(self, key: str, value: bytes) -> None:
        """Keep a value."""


class MemoryStore:
    """Keeps what was used last, up to `max_bytes`, each for `ttl_seconds`."""

    def __init__(self, *, max_bytes: int, ttl_seconds: float, metrics: InferenceMetrics) -> None:
        self._max_bytes = max_bytes
        self._ttl_seconds = ttl_seconds
        self._values: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self._size_bytes = 0
        self._metrics = metrics

    async def get(self, key: str) -> bytes | str | None:
        """Return a value that is not too old."""
        if key not in self._values:
            return None
        expires_at, value = self._values[key]
        if expires_at <= time.monotonic():
            self._drop(key)
            return None
        self._values.move_to_end(key)
        return value

    async def put(self, key: str, value: bytes) -> None:
        """Keep a value, and drop those that were not used for longest where there is no room."""
        if key in self._values:
            self._drop(key)
        self._values[key] = (time.monotonic() + self._ttl_seconds, value)
        self._count(_size(value))
        while self._size_bytes > self._max_bytes:
            self._drop(next(iter(self._values)))

    def _drop(self, key: str) -> None:
        _, value = self._values.pop(key)
        self._count(-_size(value))

    def _count(self, size: int) -> None:
        self._size_bytes += size
        self._metrics.cache_bytes.set(self._size_bytes)


class RedisStore:
    """Keeps values in Redis, for all replicas. While it is away there are none, and none are added while it is full."""

    def __init__(self, redis: Redis, *, ttl_seconds: float, metrics: InferenceMetrics) -> None:
        self._redis = redis
        self._ttl_milliseconds = max(1, int(ttl_seconds * 1000))
        self._metrics = metrics
        self._away_until = 0.0
        self._full_until = 0.0

    async def get(self, key: str) -> bytes | str | None:
        """Return a value, or None where Redis does not answer."""
        if time.monotonic() < self._away_until:
            return None
        try:
            value: bytes | str | None = await self._redis.get(REDIS_PREFIX + key)
        except (RedisError, OSError) as error:
            self._is_away(error)
            return None
        return value

    async def put(self, key: str, value: bytes) -> None:
        """Keep a value where Redis answers."""
        if time.monotonic() < max(self._away_until, self._full_until):
            return
        try:
            await self._redis.set(REDIS_PREFIX + key, value, px=self._ttl_milliseconds)
        except ResponseError as error:  # it answers: what it has may still be asked for
            self._full_until = time.monotonic() + REDIS_RETRY_SECONDS
            self._metrics.cache_failures.inc()
            log.warning("cache_takes_nothing", error=type(error).__name__)
        except (RedisError, OSError) as error:
            self._is_away(error)

    def _is_away(self, error: Exception) -> None:
        self._away_until = time.monotonic() + REDIS_RETRY_SECONDS
        self._metrics.cache_failures.inc()
        log.warning("cache_is_away", error=type(error).__name__)


class LogitsCache:
    """Logits by what they depend on: all that is asked of a picture comes from them."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def get(self, key: str, classes: int) -> Tensor | None:
        """Return what was computed before, float32 [classes]."""
        value = await self._store.get(key)
        if value is None:
            return None
        if not isinstance(value, bytes) or len(value) != classes * torch.float32.itemsize:
            log.warning("cache_holds_something_else")
            return None
        # A copy: the memory of `bytes` must not be written to.
        return torch.frombuffer(bytearray(value), dtype=torch.float32)

    async def put(self, key: str, logits: Tensor) -> None:
        """Keep what was computed, float32 [classes]."""
        await self._store.put(key, logits.numpy().tobytes())


async def cache_key(data: bytes | memoryview, *parameters: str) -> str:
    """Return the key of the answer for the bytes `data` of a picture under `parameters`."""
    return await run_by_size(len(data), _hash, data, parameters)


def _hash(data: bytes | memoryview, parameters: Sequence[str]) -> str:
    described = json.dumps([hashlib.sha256(data).hexdigest(), *parameters])
    return hashlib.sha256(described.encode()).hexdigest()


def _size(value: bytes) -> int:
    return len(value) + _ENTRY_OVERHEAD_BYTES


@asynccontextmanager
async def open_cache(
    settings: InferenceSettings, metrics: InferenceMetrics, telemetry: Telemetry
) -> AsyncIterator[LogitsCache | None]:
    """Yield the cache, or None where it is off. In Redis the bound on its bytes is that of Redis."""
    ttl_seconds = settings.cache_ttl_seconds
    if not settings.cache_max_bytes:
        yield None
        return
    if settings.cache_redis_url is None:
        yield LogitsCache(MemoryStore(max_bytes=settings.cache_max_bytes, ttl_seconds=ttl_seconds, metrics=metrics))
        return
    async with Redis.from_url(
        settings.cache_redis_url.get_secret_value(),
        socket_timeout=REDIS_TIMEOUT_SECONDS,
        socket_connect_timeout=REDIS_TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),
    ) as redis:
        telemetry.watch_redis(redis)
        yield LogitsCache(RedisStore(redis, ttl_seconds=ttl_seconds, metrics=metrics))
