"""Password hashes: argon2id, computed on a bounded pool of threads."""

import asyncio
import secrets
import threading
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, ParamSpec, TypeVar

from prometheus_client import CollectorRegistry
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from pydantic import AfterValidator, Field
from servicekit.typed_text import WITHOUT_CONTROLS, holds_control

from users_service.errors import Overloaded, WeakPassword
from users_service.imported_hashes import ImportedBcrypt, ImportedPbkdf2
from users_service.metrics import HashMetrics
from users_service.strength import MIN_SCORE, find_weakness

MEMORY_KIB = 19 * 1024
PASSES = 2
LANES = 1


def _can_be_sent(password: str) -> str:
    """Refuse what auth refuses at every sign-in (RFC 6749 appendix A)."""
    if holds_control(password):
        raise ValueError("expected no control characters but tabs")
    return password


NewPassword = Annotated[
    str,
    Field(
        min_length=8,
        max_length=256,
        description="8 to 256 characters, none of them a control character but tabs; "
        "refused where they are easy to guess.",
        examples=["correct horse battery staple"],
        json_schema_extra={"format": "password", "writeOnly": True, "pattern": WITHOUT_CONTROLS},
    ),
    AfterValidator(_can_be_sent),
]

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a password was right, and the stronger hash that should replace the stored one."""

    is_right: bool
    upgraded_hash: str | None = None


class Passwords:
    """Hashes and verifies on a pool of threads. A full pool refuses instead of piling up memory."""

    def __init__(
        self,
        hasher: PasswordHash,
        executor: ThreadPoolExecutor,
        metrics: HashMetrics,
        *,
        capacity: int,
        min_score: int = MIN_SCORE,
    ) -> None:
        """`capacity` counts the computations that run or wait."""
        self._min_score = min_score
        self._hasher = hasher
        self._executor = executor
        self._metrics = metrics
        self._places = threading.BoundedSemaphore(capacity)
        # Verified where there is no hash, so that an unknown name costs what a known one does.
        self._decoy = hasher.hash(secrets.token_urlsafe())

    async def hash(self, password: str, *, field: str, about: Iterable[str | None] = ()) -> str:
        """Return the hash of a new password, if it is hard to guess for who knows `about` its user.

        Raises:
            WeakPassword: it is not; the problem names `field`.
            Overloaded: the pool is full; nothing was computed.
        """
        return await self._compute(self._hash_strong, _normalize(password), field, about)

    async def verify(self, password: str, stored: str | None) -> Verdict:
        """Compare `password` with a stored hash; with None it costs the same and is wrong.

        Raises:
            Overloaded: the pool is full; nothing was computed.
        """
        is_right, upgraded = await self._compute(
            self._hasher.verify_and_update, _normalize(password), stored or self._decoy
        )
        return Verdict(is_right, upgraded) if stored and is_right else Verdict(is_right=False)

    def _hash_strong(self, password: str, field: str, about: Iterable[str | None]) -> str:
        weakness = find_weakness(password, about, min_score=self._min_score)
        if weakness is not None:
            raise WeakPassword(field, weakness)
        return self._hasher.hash(password)

    async def _compute(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if not self._places.acquire(blocking=False):
            raise Overloaded

        def compute() -> T:
            with self._metrics.computing():
                return function(*args, **kwargs)

        self._metrics.queued()
        work = self._executor.submit(compute)
        # Not when the caller is done: a thread goes on after its caller has left.
        work.add_done_callback(self._free_place)
        return await asyncio.wrap_future(work)

    def _free_place(self, work: Future[T]) -> None:
        if work.cancelled():
            self._metrics.left_queue()
        self._places.release()


@contextmanager
def open_passwords(
    *, workers: int, queue_size: int, min_score: int = MIN_SCORE, registry: CollectorRegistry | None = None
) -> Iterator[Passwords]:
    """Yield a pool of `workers` threads on which `queue_size` more computations may wait."""
    metrics = HashMetrics(registry)
    metrics.show_pool(threads=workers, queue_capacity=queue_size)
    argon2id = Argon2Hasher(time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=LANES)
    with ThreadPoolExecutor(workers, thread_name_prefix="hash") as executor:
        hasher = PasswordHash((argon2id, ImportedBcrypt(), ImportedPbkdf2()))
        yield Passwords(hasher, executor, metrics, capacity=workers + queue_size, min_score=min_score)


def _normalize(password: str) -> str:
    """Return the form that does not depend on the keyboard (RFC 8265 section 4.2.1)."""
    return unicodedata.normalize("NFC", password)
