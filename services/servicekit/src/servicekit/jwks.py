"""The keys of the token issuer, fetched over HTTP and kept."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

import httpx
from prometheus_client import CollectorRegistry

from servicekit.background import running
from servicekit.health import Readiness
from servicekit.logs import get_logger, without_secrets
from servicekit.metrics import Readings
from servicekit.problem import ServiceUnavailable
from servicekit.tokens import PublicKey

MIN_REFRESH_INTERVAL_SECONDS = 2.0
"""Shortest time between two fetches, whatever key ids callers make up."""
FETCH_SECONDS = 5.0
"""For a whole fetch: a server that sends a byte now and then holds nobody longer."""
MAX_SET_BYTES = 256 * 1024
"""Of a key set: hundreds of keys."""
MAX_PORT = 65535
KEYS_NEED = "keys"
"""What `Readiness` calls having keys."""

log = get_logger(__name__)


class KeysUnavailable(ServiceUnavailable):
    """The keys of the token issuer were not fetched yet: whether a token is good is not known."""

    title, slug = "Keys unavailable", "keys-unavailable"

    def __init__(self) -> None:
        super().__init__("the keys of the token issuer cannot be had now")


def usable_keys(documents: Iterable[Any]) -> list[PublicKey]:
    """Return the keys of a JWK set, without those that are of no use here (RFC 7517 section 5).

    Raises:
        ValueError: none is left.
    """
    keys = []
    for document in documents:
        with contextlib.suppress(ValueError, AttributeError, TypeError):
            keys.append(PublicKey(document))
    if not keys:
        raise ValueError("expected a public RS256 or ES256 signature key")
    return keys


async def fetch_keys(url: str, http: httpx.AsyncClient) -> list[PublicKey]:
    """Return the usable keys of the set at `url`, which may be anybody's: it is held to a size and a time.

    Raises:
        httpx.HTTPError, TimeoutError: there was no good answer in time.
        httpx.InvalidURL: `url` is none.
        ValueError: it is no key set, is larger than MAX_SET_BYTES or compressed, or has no usable key.
    """
    if (httpx.URL(url).port or 0) > MAX_PORT:  # asking it would raise what no caller expects
        raise httpx.InvalidURL(f"expected a port of at most {MAX_PORT}")
    body = bytearray()
    async with (
        asyncio.timeout(FETCH_SECONDS),
        http.stream("GET", url, headers={"Accept-Encoding": "identity"}) as response,
    ):
        response.raise_for_status()
        # A few bytes could become any number of them.
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise ValueError("expected a key set that is not compressed")
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > MAX_SET_BYTES:
                raise ValueError(f"expected at most {MAX_SET_BYTES} bytes")
    try:
        return usable_keys(json.loads(body)["keys"])
    except (KeyError, TypeError, RecursionError):
        raise ValueError("expected a key set") from None


class JwksClient:
    """Keys by id. An unknown id causes one shared fetch; a failed fetch keeps the last good keys."""

    def __init__(
        self,
        url: str,
        http: httpx.AsyncClient,
        readiness: Readiness,
        *,
        max_age_seconds: float = float("inf"),
        readings: Readings | None = None,
    ) -> None:
        """Take for how long keys are good without another fetch, where nobody keeps them fresh."""
        self._url = url
        self._max_age_seconds = max_age_seconds
        self._http = http
        self._readiness = readiness
        self._readings = readings
        self._keys: dict[str, PublicKey] = {}
        self._was_fetched = False
        self._fetching = asyncio.Lock()
        self._tried_at = float("-inf")

    async def get(self, key_id: str) -> PublicKey | None:
        """Return the key, asking the issuer once where it is not known yet.

        Raises:
            KeysUnavailable: the issuer has not given any keys so far, so nobody can tell.
        """
        if key_id not in self._keys or time.monotonic() - self._tried_at > self._max_age_seconds:
            await self._refresh()
            if not self._was_fetched:
                raise KeysUnavailable
        return self._keys.get(key_id)

    async def keep_only(self, key_ids: Sequence[str]) -> None:
        """Forget the keys that are not among `key_ids`: they were given up. Fetch those that are not known yet."""
        self._keys = {key_id: key for key_id, key in self._keys.items() if key_id in key_ids}
        if self._was_fetched and len(self._keys) < len(set(key_ids)):
            await self._refresh(min_interval_seconds=0.0)

    async def _refresh(self, *, min_interval_seconds: float | None = None) -> None:
        """Fetch the keys, unless that was tried a moment ago."""
        if min_interval_seconds is None:
            min_interval_seconds = MIN_REFRESH_INTERVAL_SECONDS
        async with self._fetching:
            if time.monotonic() - self._tried_at < min_interval_seconds:
                return
            try:
                keys = await fetch_keys(self._url, self._http)
            except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError) as error:
                if not self._readiness.is_ending:  # the issuer may have been told to end as well
                    log.warning("jwks_fetch_failed", url=without_secrets(self._url), error=type(error).__name__)
                if self._readings:
                    self._readings.failed()
            else:
                self._keys = {key.key_id: key for key in keys}
                self._was_fetched = True
                if self._readings:
                    self._readings.succeeded()
                self._readiness.is_met(KEYS_NEED)
            finally:
                self._tried_at = time.monotonic()

    async def _keep_fresh(self, interval_seconds: float) -> None:
        while True:
            await self._refresh()
            await asyncio.sleep(interval_seconds if self._was_fetched else MIN_REFRESH_INTERVAL_SECONDS)


@contextlib.asynccontextmanager
async def open_jwks(
    url: str,
    http: httpx.AsyncClient,
    readiness: Readiness,
    *,
    refresh_seconds: float,
    registry: CollectorRegistry | None = None,
) -> AsyncIterator[JwksClient]:
    """Yield a client that keeps itself fresh; `readiness` is told when the first keys are there."""
    readings = Readings(
        registry, count="jwks_fetches", time="jwks_fetched_timestamp_seconds", what="the key set of auth"
    )
    client = JwksClient(url, http, readiness, readings=readings)
    async with running(client._keep_fresh(refresh_seconds), name="jwks"):
        yield client
