"""Connections to a database: how many, how long they may be waited for, and what is measured of them."""

import math
import socket
import ssl
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from sqlalchemy import event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import Pool, QueuePool

from servicekit.problem import ServiceUnavailable
from servicekit.settings import ServiceSettings

# PostgreSQL: connection lost (08), out of resources (53), stopped by an operator or a time-out (57), lock
# not available, deadlock, serialization failure.
_PASSING_STATES = ("08", "53", "57", "55P03", "40P01", "40001")

_READ_ONLY = "25006"

_MAX_KEEPALIVE_SECONDS = 32767  # of Linux


class DatabaseUnavailable(ServiceUnavailable):
    """The database is away or busy; nothing was changed."""

    title, slug = "Database unavailable", "database-unavailable"

    def __init__(self) -> None:
        super().__init__("the database does not answer in time")


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What one process asks of PostgreSQL. SQLite is waited for in turn instead."""

    pool_size: int = 5
    max_overflow: int = 10
    pool_wait_seconds: float = 5.0
    statement_seconds: float = 10.0
    lock_seconds: float = 3.0

    def engine_options(self) -> dict[str, Any]:
        """Return the options of `create_async_engine` for asyncpg."""
        return {
            "pool_pre_ping": True,
            "pool_size": self.pool_size,
            "max_overflow": self.max_overflow,
            "pool_timeout": self.pool_wait_seconds,
            "connect_args": {
                "timeout": self.pool_wait_seconds,
                "server_settings": {
                    "statement_timeout": str(round(self.statement_seconds * 1000)),
                    "lock_timeout": str(round(self.lock_seconds * 1000)),
                    # A transaction that its process forgot holds its locks no longer than this.
                    "idle_in_transaction_session_timeout": str(round(self.statement_seconds * 3000)),
                },
            },
        }

    def end_if_silent(self, connection: Any, _record: Any) -> None:
        """Let the kernel end a new connection whose server is gone without a word; by itself it tries for 15 minutes.

        The server's own limits end nothing then, and each connection of the pool would be waited for in turn.
        """
        sock = connection.driver_connection._transport.get_extra_info("socket")
        if sock.family == socket.AF_UNIX:
            return
        seconds = min(max(1, math.ceil(self.statement_seconds)), _MAX_KEEPALIVE_SECONDS)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in (
            ("TCP_KEEPIDLE", seconds),  # where an answer is waited for, nothing is sent but this
            ("TCP_KEEPINTVL", seconds),
            ("TCP_KEEPCNT", 1),
            ("TCP_USER_TIMEOUT", seconds * 1000),
        ):
            if hasattr(socket, option):  # not every system has each
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


class ConnectionSettings(ServiceSettings):
    """Where a service's database is, and what is asked of it."""

    database_url: str = Field(pattern=r"^(sqlite\+aiosqlite|postgresql\+asyncpg)://")

    migrate_at_start: bool = True
    """Off where a job of its own migrates; the start then waits until the schema is up to date."""

    database_pool_size: PositiveInt = 5
    """Connections that a process keeps open to PostgreSQL."""

    database_max_overflow: NonNegativeInt = 10
    """Further ones under load, closed when it is over."""

    database_pool_wait_seconds: PositiveFloat = 5.0
    """Longest wait for a free connection, or for a new one to open; then 503."""

    database_statement_seconds: PositiveFloat = 10.0
    """Longest run of one statement; then 503."""

    database_lock_seconds: PositiveFloat = 3.0
    """Longest wait for a row that somebody else changes; then 503."""

    @property
    def connection_limits(self) -> ConnectionLimits:
        """What `open_database` takes."""
        return ConnectionLimits(
            pool_size=self.database_pool_size,
            max_overflow=self.database_max_overflow,
            pool_wait_seconds=self.database_pool_wait_seconds,
            statement_seconds=self.database_statement_seconds,
            lock_seconds=self.database_lock_seconds,
        )


class PoolMetrics:
    """How many connections of a pool are in use, wait for use and may be open, and how often none could be had."""

    def __init__(self, registry: CollectorRegistry | None) -> None:
        """Without `registry` nobody sees them."""
        self._connections = Gauge(
            "db_client_connection_count",
            "Open connections to the database.",
            ["state"],
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._max = Gauge(
            "db_client_connection_max",
            "Connections to the database that may be open at once.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._timeouts = Counter(
            "db_client_connection_timeouts",
            "Times that a free connection was waited for in vain.",
            registry=registry,
        )

    def timed_out(self) -> None:
        """Count one wait in vain."""
        self._timeouts.inc()

    def watch(self, pool: Pool, *, max_connections: int) -> None:
        """Count the connections of this pool from now on, in the states that OpenTelemetry names."""
        self._max.set(max_connections)
        used, idle = (self._connections.labels(state) for state in ("used", "idle"))
        if isinstance(pool, QueuePool):
            used.set(pool.checkedout())
            idle.set(pool.checkedin())

        def checked_out(*_: object) -> None:
            idle.dec()
            used.inc()

        def checked_in(*_: object) -> None:
            used.dec()
            idle.inc()

        event.listen(pool, "connect", lambda *_: idle.inc())
        event.listen(pool, "checkout", checked_out)
        event.listen(pool, "checkin", checked_in)
        event.listen(pool, "close", lambda *_: idle.dec())


def leave_if_read_only(error: ExceptionContext) -> None:
    """Give up the connections to a server that takes no writes any more: another has taken over, and new ones reach it.

    They answer otherwise, so that nothing else would end them.
    """
    if getattr(error.original_exception, "sqlstate", None) == _READ_ONLY:
        error.is_disconnect = True


def is_passing(error: Exception) -> bool:
    """Tell whether the same request may succeed a moment later."""
    # Whatever keeps a connection from being made: refused, no route to the host, no name, no socket.
    if isinstance(error, PoolTimeoutError | OSError) and not isinstance(error, ssl.SSLError):
        return True
    if not isinstance(error, DBAPIError):
        return False
    state = getattr(error.orig, "sqlstate", None) or ""
    return error.connection_invalidated or state.startswith(_PASSING_STATES) or "database is locked" in str(error.orig)
