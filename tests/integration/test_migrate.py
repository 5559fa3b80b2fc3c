"""The command that brings a schema up to date before the replicas start."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest
from servicekit.database import open_database
from servicekit.migrate import migrate

from tests.postgres import Postgres


@pytest.fixture
async def url(postgres: Postgres) -> AsyncIterator[str]:
    name = await postgres.create()
    yield postgres.url(name)
    await postgres.drop(name)


async def is_migrated(url: str, package: str) -> bool:
    async with open_database(url) as database:
        return await database.is_migrated(package)


@pytest.mark.parametrize(
    ("package", "settings", "variable"),
    [
        ("auth_service", "AuthSettings", "AUTH_DATABASE_URL"),
        ("users_service", "UsersSettings", "USERS_DATABASE_URL"),
    ],
)
async def test_it_migrates_the_database_that_the_variables_name(
    url: str, package: str, settings: str, variable: str
) -> None:
    command = [sys.executable, "-m", "servicekit.migrate", f"{package}.settings:{settings}"]
    done = await asyncio.to_thread(
        subprocess.run,
        command,
        env={**os.environ, variable: url},
        timeout=60,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "schema_is_up_to_date" in done.stdout + done.stderr
    assert await is_migrated(url, package)


async def test_several_at_once_leave_one_schema(url: str) -> None:
    await asyncio.gather(*(migrate(url, "auth_service", wait_seconds=10) for _ in range(3)))
    assert await is_migrated(url, "auth_service")


async def test_a_database_that_never_answers_is_told_of() -> None:
    nobody = "postgresql+asyncpg://pinhole@127.0.0.1:1/auth"
    with pytest.raises(SystemExit, match="does not answer"):
        await migrate(nobody, "auth_service", wait_seconds=0.2)


def test_it_ends_at_the_signal_while_it_waits() -> None:
    command = [sys.executable, "-m", "servicekit.migrate", "auth_service.settings:AuthSettings"]
    variables = {**os.environ, "AUTH_DATABASE_URL": "postgresql+asyncpg://pinhole@127.0.0.1:1/auth"}
    with subprocess.Popen(command, env=variables, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "database_unavailable" in process.stderr.readline()
        process.terminate()
        _, logged = process.communicate(timeout=10)
    # Of itself, and not by the signal: that would not end the first process of a container.
    assert process.returncode == 143
    assert "Traceback" not in logged
