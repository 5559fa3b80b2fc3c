"""Sessions that ended before their tokens did: auth tells, and a service keeps them in memory."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import httpx
from prometheus_client import CollectorRegistry
from pydantic import BaseModel, ValidationError

from servicekit.background import running
from servicekit.health import Readiness
from servicekit.jwks import JwksClient
from servicekit.logs import get_logger, without_secrets
from servicekit.metrics import Readings

POLL_SECONDS = 0.5
REQUEST_SECONDS = 2.0
MAX_KEPT = 1_000_000
"""Sessions that are remembered at most, about 200 MB; past it those go first whose tokens end first."""

REVOCATIONS_PATH = "/internal/revocations"
REVOCATIONS_NEED = "revocations"
"""What `Readiness` calls knowing which sessions have ended."""

log = get_logger(__name__)


class Revocation(BaseModel):
    """A session that has ended. Past `expires_at`, in Unix seconds, none of its tokens is valid anyway."""

    sid: str
    expires_at: int


class RevocationPage(BaseModel):
    """Sessions in the order of their ends. Asking `after` the cursor `next` goes on from there, and may repeat some."""

    revocations: list[Revocation]
    next: str
    has_more: bool
    key_ids: list[str] | None = None
    """The keys that verify now. None from an auth service of the version before."""


class EndedSessions:
    """The sessions that auth said have ended; while auth is away, what it said last."""

    def __init__(
        self,
        url: str,
        http: httpx.AsyncClient,
        readiness: Readiness,
        readings: Readings,
        keys: JwksClient | None = None,
    ) -> None:
        """Take who keeps the keys, to be told which of them are good."""
        self._url = url
        self._http = http
        self._readiness = readiness
        self._readings = readings
        self._keys = keys
        self._expires_at: dict[str, int] = {}
        self._next: str | None = None
        self._is_following = True

    async def is_revoked(self, session_id: str) -> bool:
        """Tell whether a session has ended, as `TokenVerifier` asks; nobody is called."""
        return session_id in self._expires_at

    async def catch_up(self) -> None:
        """Ask for what has ended since the last time. A failure changes nothing that is known."""
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                while (page := await self._fetch()).has_more:
                    self._take(page)
        except (httpx.HTTPError, TimeoutError, ValidationError) as error:
            if self._is_following and not self._readiness.is_ending:  # auth may have been told to end as well
                log.warning("revocations_lost", url=without_secrets(self._url), error=type(error).__name__)
            self._is_following = False
            self._readings.failed()
        else:
            self._take(page)
            if self._keys is not None and page.key_ids is not None:
                await self._keys.keep_only(page.key_ids)
            self._readings.succeeded()
            self._readiness.is_met(REVOCATIONS_NEED)
            if not self._is_following:
                log.info("revocations_regained")
            self._is_following = True
        self._forget()

    async def _fetch(self) -> RevocationPage:
        response = await self._http.get(self._url, params={} if self._next is None else {"after": self._next})
        response.raise_for_status()
        return RevocationPage.model_validate_json(response.content)

    def _take(self, page: RevocationPage) -> None:
        self._next = page.next
        for revocation in page.revocations:
            self._expires_at.setdefault(revocation.sid, revocation.expires_at)

    def _forget(self) -> None:
        """Drop those whose tokens have expired: they came in the order of their ends, so they stand first."""
        now, surplus = time.time(), len(self._expires_at) - MAX_KEPT
        over: list[str] = []
        for session_id, expires_at in self._expires_at.items():
            if expires_at > now and len(over) >= surplus:
                break
            over.append(session_id)
        # In a pass of its own: to look for the first one again walks over all that were removed before it.
        for session_id in over:
            del self._expires_at[session_id]

    async def keep_up(self, interval_seconds: float) -> None:
        """Catch up for ever."""
        while True:
            await asyncio.sleep(interval_seconds)
            await self.catch_up()


@contextlib.asynccontextmanager
async def open_revocations(
    auth_url: str,
    http: httpx.AsyncClient,
    readiness: Readiness,
    *,
    keys: JwksClient | None = None,
    interval_seconds: float = POLL_SECONDS,
    registry: CollectorRegistry | None = None,
) -> AsyncIterator[EndedSessions]:
    """Yield the ended sessions, kept up to date; `readiness` is told when auth has answered for the first time.

    The same answers tell which keys verify: `keys` forgets the others.
    """
    readings = Readings(
        registry,
        count="revocations_reads",
        time="revocations_read_timestamp_seconds",
        what="the list of ended sessions",
    )
    sessions = EndedSessions(auth_url + REVOCATIONS_PATH, http, readiness, readings, keys)
    await sessions.catch_up()
    async with running(sessions.keep_up(interval_seconds), name="revocations"):
        yield sessions
