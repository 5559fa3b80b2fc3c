"""The database layer on PostgreSQL: what is waited for, and for how long."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from servicekit.connections import ConnectionLimits, DatabaseUnavailable, PoolMetrics, is_passing
from servicekit.database import Database, open_database
from sqlalchemy import text
from structlog.testing import capture_logs

from tests.postgres import Postgres

LIMITS = ConnectionLimits(pool_size=2, max_overflow=0, pool_wait_seconds=0.3, statement_seconds=0.5, lock_seconds=0.2)


@pytest.fixture
async def url(postgres: Postgres) -> AsyncIterator[str]:
    name = await postgres.create()
    yield postgres.url(name)
    await postgres.drop(name)


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    async with open_database(url, LIMITS) as database:
        async with database.engine.begin() as connection:
            await connection.execute(text("CREATE TABLE notes (id integer PRIMARY KEY, body text)"))
            await connection.execute(text("INSERT INTO notes VALUES (1, 'one')"))
        yield database


async def test_a_statement_that_takes_too_long_is_ended(database: Database) -> None:
    with pytest.raises(DatabaseUnavailable):
        async with database.begin() as session:
            await session.execute(text("SELECT pg_sleep(30)"))
    async with database.begin() as session:
        assert (await session.execute(text("SELECT 1"))).scalar() == 1


async def test_a_row_that_another_holds_is_not_waited_for_for_ever(database: Database) -> None:
    change = text("UPDATE notes SET body = 'two'")
    async with database.begin() as first:
        await first.execute(change)
        with pytest.raises(DatabaseUnavailable):
            async with database.begin() as second:
                await second.execute(change)
    async with database.begin() as session:
        assert (await session.execute(text("SELECT body FROM notes"))).scalar() == "two"


async def test_a_pool_that_stays_empty_refuses_and_recovers(database: Database) -> None:
    async with database.begin() as first, database.begin() as second:
        for session in (first, second):
            await session.execute(text("SELECT 1"))
        with pytest.raises(DatabaseUnavailable):
            async with database.begin() as third:
                await third.execute(text("SELECT 1"))
    async with database.begin() as session:
        assert (await session.execute(text("SELECT 1"))).scalar() == 1


async def test_connections_that_the_server_has_closed_are_replaced_unnoticed(url: str, database: Database) -> None:
    async with database.begin() as session:
        await session.execute(text("SELECT 1"))
    async with open_database(url) as other, other.begin() as session:
        ended = await session.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
        assert ended.all()
    async with database.begin() as session:
        assert (await session.execute(text("SELECT 1"))).scalar() == 1


async def test_a_server_that_only_reads_now_is_left_for_the_one_that_writes(url: str, database: Database) -> None:
    """The standby has taken over: who is still connected to the server of before, or was led there, writes in vain."""

    async def write() -> None:
        async with database.begin() as session:
            await session.execute(text("UPDATE notes SET body = 'two'"))

    async with open_database(url) as other, other.begin() as session:
        name = (await session.execute(text("SELECT current_database()"))).scalar_one()
        await session.execute(text(f"ALTER DATABASE {name} SET default_transaction_read_only = on"))
    await database.engine.dispose()
    with pytest.raises(DatabaseUnavailable):
        await write()
    async with open_database(url) as other, other.begin() as session:
        await session.execute(text("SET TRANSACTION READ WRITE"))
        await session.execute(text(f"ALTER DATABASE {name} RESET default_transaction_read_only"))
    await write()


@pytest.mark.parametrize(
    ("address", "reason"),
    [("@127.0.0.1:9/none", "ConnectionRefusedError"), ("@/none?host={folder}", "FileNotFoundError")],
)
async def test_a_server_that_is_away_is_unavailable(address: str, reason: str, tmp_path: Path) -> None:
    url = f"postgresql+asyncpg://postgres{address.format(folder=tmp_path)}"
    with capture_logs() as logged:
        async with open_database(url, LIMITS) as database:
            with pytest.raises(DatabaseUnavailable) as refused:
                async with database.begin() as session:
                    await session.execute(text("SELECT 1"))
    assert refused.value.status == 503
    assert refused.value.headers == {"Retry-After": "1"}
    assert [line["reason"] for line in logged] == [reason]


def test_a_server_whose_machine_is_off_the_network_is_unavailable() -> None:
    assert is_passing(OSError(errno.EHOSTUNREACH, "Connect call failed ('192.0.2.1', 5432)"))


async def test_a_server_with_no_connection_left_is_unavailable_and_the_log_says_so(
    postgres: Postgres, database: Database
) -> None:
    name = database.engine.url.database
    async with open_database(postgres.url("postgres")) as other, other.begin() as session:
        await session.execute(text(f"ALTER DATABASE {name} CONNECTION LIMIT 0"))
        await session.execute(text("CREATE ROLE somebody LOGIN"))
    url = postgres.url(str(name)).replace("postgres@", "somebody@")
    with capture_logs() as logged:
        async with open_database(url, LIMITS) as refused:
            with pytest.raises(DatabaseUnavailable):
                async with refused.begin() as session:
                    await session.execute(text("SELECT 1"))
    assert [line["reason"] for line in logged] == ["TooManyConnectionsError"]


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux alone has it")
async def test_a_server_that_is_gone_without_a_word_is_not_waited_for_for_ever(postgres: Postgres, url: str) -> None:
    """Its machine was lost: nothing closes the connection, and the server's own limits end nothing any more."""

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_unix_connection(f"{postgres.folder}/.s.PGSQL.5432")

        async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                target.write(data)
            target.close()

        await asyncio.gather(copy(reader, to_server), copy(from_server, writer))

    async with await asyncio.start_server(relay, "127.0.0.1") as over_tcp:
        port = over_tcp.sockets[0].getsockname()[1]
        limits = ConnectionLimits(statement_seconds=2.5)
        async with (
            open_database(url.replace("@/", f"@127.0.0.1:{port}/").partition("?")[0], limits) as database,
            database.engine.connect() as connection,
        ):
            driver = (await connection.get_raw_connection()).driver_connection
            assert driver is not None
            sock = driver._transport.get_extra_info("socket")
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
            assert [sock.getsockopt(socket.IPPROTO_TCP, option) for option in options] == [3, 3, 1, 3000]


async def test_an_error_of_ours_is_not_called_the_databases(database: Database) -> None:
    with pytest.raises(Exception, match="does not exist"):
        async with database.begin() as session:
            await session.execute(text("SELECT * FROM nowhere"))


async def test_two_replicas_that_migrate_at_once_wait_for_each_other_beyond_the_limits(url: str) -> None:
    async with open_database(url, LIMITS) as first, open_database(url, LIMITS) as second:
        await asyncio.gather(first.migrate("users_service"), second.migrate("users_service"))
        assert await first.is_migrated("users_service")


async def test_the_metrics_count_connections_in_use_and_idle(url: str) -> None:
    registry = CollectorRegistry()

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    async with open_database(url, LIMITS, PoolMetrics(registry)) as database:
        async with database.begin() as session:
            await session.execute(text("SELECT 1"))
            assert value("db_client_connection_count", state="used") == 1
        assert value("db_client_connection_count", state="used") == 0
        assert value("db_client_connection_count", state="idle") == 1
        assert value("db_client_connection_max") == LIMITS.pool_size + LIMITS.max_overflow == 2


async def test_the_metrics_count_who_waited_for_a_connection_in_vain(url: str) -> None:
    registry = CollectorRegistry()
    async with (
        open_database(url, LIMITS, PoolMetrics(registry)) as database,
        database.begin() as first,
        database.begin() as second,
    ):
        for session in (first, second):
            await session.execute(text("SELECT 1"))
        with pytest.raises(DatabaseUnavailable):
            async with database.begin() as third:
                await third.execute(text("SELECT 1"))
    assert registry.get_sample_value("db_client_connection_timeouts_total") == 1


async def test_a_server_that_comes_later_is_waited_for(postgres: Postgres, url: str, tmp_path: Path) -> None:
    """A pod may start before its database; that is no reason to end with a traceback."""
    not_yet = tmp_path / ".s.PGSQL.5432"
    with socket.socket(socket.AF_UNIX) as refusing:
        refusing.bind(str(not_yet))
    missed = asyncio.Event()

    def notice(_logger: object, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if event["event"] == "database_unavailable":
            missed.set()
        return event

    with capture_logs(processors=[notice]):
        async with open_database(url.replace(str(postgres.folder), str(tmp_path)), LIMITS) as database:
            waiting = asyncio.create_task(database.prepare_schema("auth_service", migrate=True))
            await asyncio.wait_for(missed.wait(), 10)
            assert not waiting.done()
            not_yet.unlink()
            not_yet.symlink_to(f"{postgres.folder}/{not_yet.name}")
            await asyncio.wait_for(waiting, 20)
            assert await database.is_migrated("auth_service")
