"""Fixtures of the users service's tests."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from servicekit.database import open_database
from users_service.dependencies import get_passwords
from users_service.metrics import HashMetrics
from users_service.passwords import Passwords

from tests.issuer import Issuer
from tests.postgres import Postgres
from tests.unit.users.driver import Users, serving, users_settings


@pytest.fixture(scope="session")
def cheap_passwords() -> Iterator[Passwords]:
    """A hash pool for tests that are not about the cost of a hash."""
    with ThreadPoolExecutor(1) as executor:
        hasher = PasswordHash([Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1)])
        yield Passwords(hasher, executor, HashMetrics(None), capacity=99)


@pytest.fixture(scope="session")
def migrated(postgres: Postgres) -> str:
    """The name of a PostgreSQL database with the newest schema, to be copied."""

    async def make() -> str:
        name = await postgres.create()
        async with open_database(postgres.url(name)) as database:
            await database.migrate("users_service")
        return name

    return asyncio.run(make())


@pytest.fixture(params=["sqlite", "postgresql"])
def server(request: pytest.FixtureRequest) -> str:
    """Which database a test runs on: each one that needs a database runs on both."""
    return str(request.param)


@pytest.fixture
def database_url(server: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where a service keeps its accounts."""
    if server == "sqlite":
        yield f"sqlite+aiosqlite:///{tmp_path}/users.db"
    else:
        with request.getfixturevalue("postgres").copied(request.getfixturevalue("migrated")) as url:
            yield url


@pytest.fixture
def empty_database_url(server: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database that no migration has seen."""
    if server == "sqlite":
        yield f"sqlite+aiosqlite:///{tmp_path}/empty.db"
    else:
        with request.getfixturevalue("postgres").copied("template1") as url:
            yield url


@pytest.fixture
async def users(database_url: str, issuer: Issuer, cheap_passwords: Passwords) -> AsyncIterator[Users]:
    """A service where administrators create accounts."""
    async with serving(users_settings(database_url, issuer), issuer) as service:
        service.app.dependency_overrides[get_passwords] = lambda: cheap_passwords
        yield service


@pytest.fixture
async def open_users(database_url: str, issuer: Issuer, cheap_passwords: Passwords) -> AsyncIterator[Users]:
    """A service where everybody signs up."""
    async with serving(users_settings(database_url, issuer, sign_up="open"), issuer) as service:
        service.app.dependency_overrides[get_passwords] = lambda: cheap_passwords
        yield service
