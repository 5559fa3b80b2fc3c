"""A service's own database: engine, sessions, migrations. SQLite on a laptop, PostgreSQL for replicas."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import alembic.command
from alembic import context
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from fastapi import Request
from sqlalchemy import AsyncAdaptedQueuePool, Connection, DateTime, Dialect, MetaData, TypeDecorator, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from uuid_utils.compat import uuid7

from servicekit.connections import ConnectionLimits, DatabaseUnavailable, PoolMetrics, is_passing, leave_if_read_only
from servicekit.logs import get_logger

_SQLITE_BUSY_SECONDS = 5
_POLL_SECONDS = 1.0
_MIGRATION_LOCK = 0x70696E68  # any constant: it keeps two replicas from migrating at once
SCHEMA_NEED = "schema"
"""What `Readiness` calls a schema that is up to date."""

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
"""Constraint names, the same on every server, so that migrations can drop them."""

log = get_logger(__name__)


class UtcDateTime(TypeDecorator[datetime]):
    """A point in time. It is stored in UTC and read back with its zone, on SQLite too."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert to UTC; a time without a zone is an error of the caller."""
        if value is not None and value.tzinfo is None:
            raise ValueError("expected a time with a zone")
        return value and value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Attach UTC to what the server returns without a zone."""
        return value and (value if value.tzinfo else value.replace(tzinfo=UTC))


def new_id() -> UUID:
    """Return a UUIDv7 (RFC 9562): ids sort by the time they were made."""
    return uuid7()


def utc_now() -> datetime:
    """Return the time, with its zone."""
    return datetime.now(UTC)


class Database:
    """The engine and the sessions of one service."""

    def __init__(self, engine: AsyncEngine, metrics: PoolMetrics) -> None:
        self.engine = engine
        self._metrics = metrics
        self.sessions = async_sessionmaker(engine, expire_on_commit=False)

    @contextlib.asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncSession]:
        """Yield a session in a transaction that commits at the end.

        Raises:
            DatabaseUnavailable: the server is away, or a connection, a lock or an answer was waited
                for too long; nothing was changed.
        """
        try:
            async with self.sessions.begin() as session:
                yield session
        except Exception as error:
            if not is_passing(error):
                raise
            if isinstance(error, PoolTimeoutError):
                self._metrics.timed_out()
            original = getattr(error, "orig", None) or error
            # SQLAlchemy has a few names for all that the driver tells apart.
            log.warning("database_unavailable", reason=type(original.__cause__ or original).__name__)
            raise DatabaseUnavailable from error

    async def migrate(self, package: str) -> None:
        """Bring the schema to the newest revision in `<package>/migrations`.

        On PostgreSQL a lock lets one replica do it while the others wait, for as long as it takes.
        """
        async with self.engine.begin() as connection:
            if self.engine.dialect.name == "postgresql":
                await connection.execute(text("SET LOCAL statement_timeout = 0"))
                await connection.execute(text("SET LOCAL lock_timeout = 0"))
                await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
                # Whoever waits for a table keeps everybody else out of it: not for long.
                await connection.execute(text("SET LOCAL lock_timeout TO DEFAULT"))
            await connection.run_sync(_upgrade, package)

    async def wait_for_an_answer(self) -> None:
        """Wait until the server answers: it may start at the same time as this."""
        while True:
            try:
                async with self.begin() as session:
                    await session.execute(text("SELECT 1"))
            except DatabaseUnavailable:
                await asyncio.sleep(_POLL_SECONDS)
            else:
                return

    async def prepare_schema(self, package: str, *, migrate: bool) -> None:
        """Migrate, or wait until something else has; and first until the server answers."""
        await self.wait_for_an_answer()
        if migrate:
            await self.migrate(package)
            return
        while not await self.is_migrated(package):
            log.warning("waiting_for_schema", package=package)
            await asyncio.sleep(_POLL_SECONDS)

    async def is_migrated(self, package: str) -> bool:
        """Tell whether the schema is at the newest revision that this code has, or at one of newer code."""
        async with self.engine.connect() as connection:
            return await connection.run_sync(_is_migrated, package)


@contextlib.asynccontextmanager
async def open_database(
    url: str, limits: ConnectionLimits | None = None, metrics: PoolMetrics | None = None
) -> AsyncIterator[Database]:
    """Yield the database at `url`, and close its connections at the end.

    Raises:
        SystemExit: the folder of a SQLite file cannot be written.
    """
    parsed = make_url(url)
    is_sqlite = parsed.get_backend_name() == "sqlite"
    if is_sqlite and parsed.database:
        await asyncio.to_thread(_create_private_file, Path(parsed.database))
    # Parameters hold personal data and secrets: no error message and no log repeats them.
    # SQLite has one writer: tasks wait for one connection in turn, rather than poll for its lock.
    one_connection = {"poolclass": AsyncAdaptedQueuePool, "pool_size": 1, "max_overflow": 0}
    limits = limits or ConnectionLimits()
    pool: dict[str, Any] = one_connection if is_sqlite else limits.engine_options()
    engine = create_async_engine(parsed, hide_parameters=True, **pool)
    metrics = metrics or PoolMetrics(None)
    metrics.watch(engine.pool, max_connections=pool["pool_size"] + pool["max_overflow"])
    if is_sqlite:
        event.listen(engine.sync_engine, "connect", _prepare_sqlite)
        event.listen(engine.sync_engine, "begin", _begin_immediate)
    else:
        event.listen(engine.sync_engine, "connect", limits.end_if_silent)
        event.listen(engine.sync_engine, "handle_error", leave_if_read_only)
    try:
        yield Database(engine, metrics)
    finally:
        await engine.dispose()


async def get_session(request: Request) -> AsyncIterator[AsyncSession]:
    """Yield a session in a transaction that commits when the endpoint returns.

    Use it as `Depends(get_session, scope="function")`: with the default scope the commit comes
    after the answer, and cannot change it any more. The lifespan state holds `database`.
    """
    database: Database = request.state.database
    async with database.begin() as session:
        yield session


def run_migrations(metadata: MetaData) -> None:
    """Run the revisions that Alembic asks for; the whole of a service's `migrations/env.py`."""
    context.configure(
        connection=context.config.attributes["connection"],
        target_metadata=metadata,
        render_as_batch=True,  # SQLite alters a table by copying it
        compare_type=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def alembic_config(package: str, connection: Connection) -> Config:
    """Return Alembic's configuration for the revisions in `<package>/migrations`."""
    config = Config()
    config.set_main_option("script_location", f"{package}:migrations")
    config.attributes["connection"] = connection
    return config


def _upgrade(connection: Connection, package: str) -> None:
    alembic.command.upgrade(alembic_config(package, connection), "head")


def _is_migrated(connection: Connection, package: str) -> bool:
    scripts = ScriptDirectory.from_config(alembic_config(package, connection))
    older = {script.revision for script in scripts.walk_revisions()} - set(scripts.get_heads())
    current = MigrationContext.configure(connection).get_current_revision()
    return current is not None and current not in older


def _create_private_file(path: Path) -> None:
    """Create a SQLite file that only its owner can read; it holds hashes and keys."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise SystemExit(f"cannot write {path}: {error.strerror}") from None


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver starts no transaction by itself: `_begin_immediate` does
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "foreign_keys=ON", f"busy_timeout={_SQLITE_BUSY_SECONDS * 1000}"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_immediate(connection: Connection) -> None:
    """Take the write lock at once: a transaction that reads first could not wait for it later."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")
