"""Attempts at passwords: each is counted before its hash is computed, so that a burst gets no further than a loop.

Three counters hold an attempt: of the name at the address, of the address, and of the name. Each
lets some attempts through and then fewer and fewer, and forgets them with time. A right password
takes its own attempt back. From an address where the name has signed in before, only the first
counter decides: whoever guesses from elsewhere cannot keep its owner out.
"""

import asyncio
import contextlib
import hmac
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from prometheus_client import CollectorRegistry
from servicekit.addresses import network_of
from servicekit.database import Database
from servicekit.logs import get_audit_log
from servicekit.problem import ServiceUnavailable
from servicekit.shared_clock import read_shared_clock
from sqlalchemy import ColumnElement, case, delete, literal, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from users_service.errors import TooManyAttempts
from users_service.metrics import AttemptMetrics, CounterKind
from users_service.tables import AttemptCounter

DELAYS_SECONDS = (30, 60, 120, 300, 900)
"""Between the attempts beyond those that are free: the first, the second, ..., all further ones."""

SLOW_DELAYS_SECONDS = (1, 2, 4, 8, 16, 30)
"""The same where many people may stand behind one counter."""

KNOWN_SECONDS = 90 * 24 * 3600
"""How long an address is known for a name after a sign-in."""

KEPT_SECONDS = 24 * 3600
PURGE_AT_ONCE = 10

PENDING_SECONDS = 10.0
"""After this, an attempt that has told no outcome is a wrong one: its process is gone."""

PATIENCE_SECONDS = 3.0
"""Longest wait for the outcomes of others at the same time, which may make room."""

_HALF = 16
"""Bytes of a counter's key: 128 bits do not meet by chance."""

audit = get_audit_log()


@dataclass(frozen=True, slots=True)
class Limit:
    """How many attempts one kind of counter lets through, and how slowly it goes on after them."""

    kind: CounterKind
    free: int
    delays_seconds: Sequence[int]
    recovery_seconds: int
    """The time in which one attempt is forgotten, if there is no other."""

    def retry_at(self, count: ColumnElement[int] | int, now: int) -> ColumnElement[int]:
        """Return when the attempt after number `count` may come, in milliseconds."""
        excess = literal(count) - self.free if isinstance(count, int) else count - self.free
        delays = dict(enumerate(now + 1000 * seconds for seconds in self.delays_seconds))
        return case(
            (excess < 0, 0), *((excess == place, at) for place, at in delays.items()), else_=max(delays.values())
        )


class _Held(NamedTuple):
    """A counter that holds an attempt, how many it has counted with it, and until when its address is known."""

    key: bytes
    limit: Limit
    attempts: int
    known_until: int

    @property
    def is_full(self) -> bool:
        """Whether it lets no further attempt through for a while."""
        return self.attempts >= self.limit.free


@dataclass(slots=True)
class Attempt:
    """A password that is being tried."""

    is_right: bool = False


class _Refused(Exception):
    def __init__(self, counter: AttemptCounter, now: int) -> None:
        super().__init__(counter.key.hex())
        self.may_change_soon = counter.pending > 0 and counter.pending_until > now
        self.retry_after_seconds = max(1, -(-(counter.retry_at - now) // 1000))


class Guard:
    """Lets attempts through, or refuses them; the counters are in the database, for all replicas."""

    def __init__(
        self,
        database: Database,
        registry: CollectorRegistry,
        *,
        key: bytes,
        per_pair: int,
        per_address: int,
        per_name: int,
        patience_seconds: float = PATIENCE_SECONDS,
        clock: Callable[[AsyncSession], Awaitable[datetime]] = read_shared_clock,
    ) -> None:
        """`key` is what the counters are named with: who has them without it cannot tell a name or an address."""
        self._database = database
        self._key = key
        self._patience_seconds = patience_seconds
        self._clock = clock
        self._upsert = postgresql.insert if database.engine.dialect.name == "postgresql" else sqlite.insert
        self._pair = Limit("pair", per_pair, DELAYS_SECONDS, recovery_seconds=3600)
        # Always in this order, pairs before addresses before names, so that no two wait for each other.
        self._shared = (
            Limit("address", per_address, SLOW_DELAYS_SECONDS, recovery_seconds=30),
            Limit("name", per_name, SLOW_DELAYS_SECONDS, recovery_seconds=120),
        )
        self._metrics = AttemptMetrics(registry)

    @contextlib.asynccontextmanager
    async def attempt(self, name: str, address: str) -> AsyncIterator[Attempt]:
        """Yield an attempt at the password of `name`, who need not exist, to be told whether it was right.

        Raises:
            TooManyAttempts: a limit is reached; nothing may be computed.
        """
        network = network_of(address)
        keys = (self._name_key(name, network), self._digest("address", network), self._name_key(name))
        held = await self._hold(keys)
        attempt = Attempt()
        try:
            yield attempt
        except ServiceUnavailable:
            # The password was not looked at, or it was right: after a wrong one, nothing is left to fail.
            await self._settle(held, is_counted=False)
            raise
        await self._settle(held, is_counted=not attempt.is_right, is_known=attempt.is_right)
        self._metrics.tried("right" if attempt.is_right else "wrong")
        if not attempt.is_right:
            for counter in held:
                if counter.is_full:
                    self._metrics.locked(counter.limit.kind)

    async def forget(self, session: AsyncSession, *names: str) -> None:
        """Remove what was counted for names, whatever the address."""
        stored = AttemptCounter
        by_name = [self._name_key(name) for name in names]
        begins = [
            stored.key.between(key[:_HALF] + bytes(_HALF), key[:_HALF] + b"\xff" * _HALF) & (stored.key != key)
            for key in by_name
        ]
        # In the order of `_shared`.
        await session.execute(delete(stored).where(or_(*begins)))
        await session.execute(delete(stored).where(stored.key.in_(by_name)))

    async def _hold(self, keys: Sequence[bytes]) -> Sequence[_Held]:
        """Count an attempt with each counter that decides, or with none of them."""
        give_up_at = time.monotonic() + self._patience_seconds
        while True:
            try:
                return await self._try_to_hold(keys)
            except _Refused as refused:
                if not refused.may_change_soon or time.monotonic() > give_up_at:
                    self._metrics.tried("refused")
                    # The key tells which refusals belong together, and nobody whose they are.
                    audit.warning("password_attempts_refused", key=str(refused)[:16])
                    raise TooManyAttempts(retry_after_seconds=refused.retry_after_seconds) from None
            await asyncio.sleep(random.uniform(0.05, 0.15))  # noqa: S311 - only so that not all come at once

    async def _try_to_hold(self, keys: Sequence[bytes]) -> Sequence[_Held]:
        pair, *shared = keys
        async with self._database.begin() as session:
            now = await self._now(session)
            held = [await self._count(session, pair, self._pair, now)]
            if held[0].known_until <= now:
                for key, limit in zip(shared, self._shared, strict=True):
                    held.append(await self._count(session, key, limit, now))
            await purge(session, now)
        return held

    async def _count(self, session: AsyncSession, key: bytes, limit: Limit, now: int) -> _Held:
        """Count one attempt in one statement."""
        stored = AttemptCounter
        forgotten = (literal(now) - stored.counted_at) // (1000 * limit.recovery_seconds)
        count = case((stored.count > forgotten, stored.count - forgotten), else_=0) + 1
        forget_at = now + int(1000 * KEPT_SECONDS)
        always = {"counted_at": now, "pending_until": now + int(1000 * PENDING_SECONDS)}
        insert = self._upsert(stored).values(
            key=key, count=1, pending=1, retry_at=limit.retry_at(1, now), known_until=0, forget_at=forget_at, **always
        )
        statement = insert.on_conflict_do_update(
            index_elements=[stored.key],
            set_={
                "count": count,
                "pending": case((stored.pending_until > now, stored.pending + 1), else_=1),
                "retry_at": limit.retry_at(count, now),
                "forget_at": case((stored.known_until > forget_at, stored.known_until), else_=forget_at),
                **always,
            },
            where=stored.retry_at <= now,
        ).returning(stored.count, stored.known_until)
        row = (await session.execute(statement)).one_or_none()
        if row is None:
            counter = (await session.scalars(select(stored).where(stored.key == key))).one()
            raise _Refused(counter, now)
        return _Held(key, limit, *row)

    async def _settle(self, held: Sequence[_Held], *, is_counted: bool, is_known: bool = False) -> None:
        """Tell the counters what came of an attempt: unless it `is_counted`, they take it back."""
        stored = AttemptCounter
        async with self._database.begin() as session:
            for place, (key, limit, _, _) in enumerate(held):
                values: dict[str, object] = {"pending": case((stored.pending > 0, stored.pending - 1), else_=0)}
                if not is_counted:
                    values["count"] = case((stored.count > 0, stored.count - 1), else_=0)
                    values["retry_at"] = case((stored.count <= limit.free, 0), else_=stored.retry_at)
                if is_known and place == 0:
                    known_until = await self._now(session) + 1000 * KNOWN_SECONDS
                    values |= {"count": 0, "retry_at": 0, "known_until": known_until, "forget_at": known_until}
                await session.execute(update(stored).where(stored.key == key).values(values))

    def _name_key(self, name: str, network: str | None = None) -> bytes:
        """Return the key of the counter of a name, or of a name at a network: all of one name begin alike."""
        whole = ("name", name) if network is None else ("pair", name, network)
        return self._digest("of a name", name)[:_HALF] + self._digest(*whole)[:_HALF]

    def _digest(self, *parts: str) -> bytes:
        return hmac.digest(self._key, "\0".join(parts).encode(), "sha256")

    async def _now(self, session: AsyncSession) -> int:
        return int((await self._clock(session)).timestamp() * 1000)


async def purge(session: AsyncSession, now: int) -> None:
    """Remove a few counters that hold nothing any more at `now`, in milliseconds."""
    over = select(AttemptCounter.key).where(AttemptCounter.forget_at < now).limit(PURGE_AT_ONCE)
    over = over.with_for_update(skip_locked=True)
    await session.execute(delete(AttemptCounter).where(AttemptCounter.key.in_(over)))
