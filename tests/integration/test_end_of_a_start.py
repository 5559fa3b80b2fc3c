"""A service that is told to end while it still waits at its start."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO

import asyncpg
import pytest

from tests.postgres import Postgres
from tests.servers import serving

MIGRATION_LOCK = 0x70696E68
Run = Callable[[str, dict[str, str], Path], AbstractContextManager[subprocess.Popen[str]]]

ENDS_WITHIN_SECONDS = 5
"""With room for a machine that is busy: by itself it would take 30 s, or go on for ever."""


@contextmanager
def under_gunicorn(service: str, variables: dict[str, str], folder: Path) -> Iterator[subprocess.Popen[str]]:
    with serving(f"{service}_service.main:create_app()", variables, folder=folder) as server:
        yield server.process


@contextmanager
def on_a_laptop(service: str, variables: dict[str, str], folder: Path) -> Iterator[subprocess.Popen[str]]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "gateway.laptop.server", f"{service}_service.main", str(port)]
    with subprocess.Popen(
        command, env={**os.environ, **variables}, cwd=folder, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


SERVERS = pytest.mark.parametrize(
    ("run", "status"), [(under_gunicorn, 0), (on_a_laptop, -signal.SIGTERM)], ids=["gunicorn", "laptop"]
)


def read_until(log: IO[str] | None, part: str) -> None:
    assert log is not None
    assert next((line for line in log if part in line), None) is not None


def end(process: subprocess.Popen[str], status: int) -> None:
    began = time.monotonic()
    process.terminate()
    _, logged = process.communicate(timeout=60)
    assert time.monotonic() - began < ENDS_WITHIN_SECONDS
    assert process.returncode == status, logged
    assert "start_given_up" in logged
    assert "Traceback" not in logged


@SERVERS
@pytest.mark.parametrize("service", ["auth", "users"])
def test_that_waits_for_a_database_that_is_away(service: str, run: Run, status: int, tmp_path: Path) -> None:
    with socket.socket() as taken:  # and nobody listens
        taken.bind(("127.0.0.1", 0))
        url = f"postgresql+asyncpg://postgres@127.0.0.1:{taken.getsockname()[1]}/none"
        with run(service, {f"{service.upper()}_DATABASE_URL": url}, tmp_path) as process:
            read_until(process.stderr, "database_unavailable")
            end(process, status)


@SERVERS
def test_that_waits_for_a_database_that_says_nothing(run: Run, status: int, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql+asyncpg://postgres@127.0.0.1:{silent.getsockname()[1]}/none"
        with run("auth", {"AUTH_DATABASE_URL": url}, tmp_path) as process:
            connection, _ = silent.accept()
            with connection:
                end(process, status)


@SERVERS
def test_that_waits_for_another_replica_that_migrates(
    run: Run, status: int, postgres: Postgres, tmp_path: Path
) -> None:
    with postgres.copied("template1") as url, asyncio.Runner() as loop:
        name = url.partition("@/")[2].partition("?")[0]
        connection = loop.run(asyncpg.connect(user="postgres", database=name, host=str(postgres.folder)))
        loop.run(connection.execute(f"SELECT pg_advisory_lock({MIGRATION_LOCK})"))
        with run("users", {"USERS_DATABASE_URL": url}, tmp_path) as process:
            waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            while loop.run(connection.fetchval(waiting)) == 0:
                assert process.poll() is None
            end(process, status)
        loop.run(connection.close())


@SERVERS
def test_that_waits_for_auth(run: Run, status: int, tmp_path: Path) -> None:
    """It goes on without it after two seconds."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        variables = {
            "INFERENCE_AUTH_URL": f"http://127.0.0.1:{silent.getsockname()[1]}",
            "INFERENCE_MODE": "eager",
            "INFERENCE_WEIGHTS_DIR": str(tmp_path),
        }
        with run("inference", variables, tmp_path) as process:
            connection, _ = silent.accept()
            with connection:
                end(process, status)
