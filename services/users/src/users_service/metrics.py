"""What the users service tells Prometheus beside its HTTP requests."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from servicekit.metrics import DURATION_BUCKETS

AttemptOutcome = Literal["right", "wrong", "refused"]
"""What comes of an attempt at a password; one that is refused is not looked at."""

CounterKind = Literal["pair", "address", "name"]
"""What attempts are counted for: a name at an address, an address, or a name."""


class AttemptMetrics:
    """Attempts at passwords, and what they lead to."""

    def __init__(self, registry: CollectorRegistry) -> None:
        attempts = Counter(
            "users_password_attempts",
            "Attempts at passwords: right, wrong, or refused as they came too often.",
            ["outcome"],
            registry=registry,
        )
        lockouts = Counter(
            "users_lockouts",
            "Wrong passwords after which no attempt is let through for a while, by what they were counted for.",
            ["counter"],
            registry=registry,
        )
        self._attempts = {outcome: attempts.labels(outcome) for outcome in get_args(AttemptOutcome)}
        self._lockouts = {kind: lockouts.labels(kind) for kind in get_args(CounterKind)}

    def tried(self, outcome: AttemptOutcome) -> None:
        """Count one attempt."""
        self._attempts[outcome].inc()

    def locked(self, kind: CounterKind) -> None:
        """Count one wrong password that was one too many."""
        self._lockouts[kind].inc()


class HashMetrics:
    """The pool that computes password hashes: its size, its queue, and how long a hash takes."""

    def __init__(self, registry: CollectorRegistry | None) -> None:
        """Without `registry` nobody sees them."""
        self._duration_seconds = Histogram(
            "users_password_hash_duration_seconds",
            "Time to compute one password hash and to judge a new password, without the wait for a thread.",
            buckets=DURATION_BUCKETS,
            registry=registry,
        )

        def gauge(name: str, documentation: str) -> Gauge:
            return Gauge(name, documentation, multiprocess_mode="livesum", registry=registry)

        self._in_progress = gauge("users_password_hashes_in_progress", "Password hashes that are being computed.")
        self._queue_size = gauge("users_password_hash_queue_size", "Password hashes that wait for a thread.")
        self._queue_capacity = gauge("users_password_hash_queue_capacity", "Password hashes that may wait.")
        self._pool_size = gauge("users_password_hash_pool_size", "Threads that compute password hashes.")

    def show_pool(self, *, threads: int, queue_capacity: int) -> None:
        """Show how much there is room for."""
        self._pool_size.set(threads)
        self._queue_capacity.set(queue_capacity)

    def queued(self) -> None:
        """Count one that waits."""
        self._queue_size.inc()

    def left_queue(self) -> None:
        """Count one no longer that waits: its turn has come, or its caller has left."""
        self._queue_size.dec()

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Measure one that has waited; to be called on its thread."""
        self.left_queue()
        with self._in_progress.track_inprogress(), self._duration_seconds.time():
            yield
