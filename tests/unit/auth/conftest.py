"""An auth service for each test, on either database, with users beside it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from auth_service.main import create_app
from auth_service.settings import AuthSettings
from servicekit.database import open_database

from tests.asgi import running
from tests.postgres import Postgres
from tests.unit.auth.fake_users import FakeUsers, serve_users

SERVERS = ["sqlite", "postgresql"]


@pytest.fixture(scope="session")
def users_server() -> Iterator[FakeUsers]:
    with serve_users() as users:
        yield users


@pytest.fixture
def users(users_server: FakeUsers) -> Iterator[FakeUsers]:
    """The users service, as if it had just started."""
    users_server.reset()
    yield users_server
    users_server.may_answer.set()


@pytest.fixture(scope="session")
def migrated(postgres: Postgres) -> str:
    """The name of a PostgreSQL database with the newest schema, to be copied."""

    async def make() -> str:
        name = await postgres.create()
        async with open_database(postgres.url(name)) as database:
            await database.migrate("auth_service")
        return name

    return asyncio.run(make())


@pytest.fixture(params=SERVERS)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where a service keeps its sessions: each test that needs a database runs on both."""
    yield from _new_database(request, tmp_path, template="migrated")


@pytest.fixture(params=SERVERS)
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database that no migration has seen."""
    yield from _new_database(request, tmp_path, template="template1")


@pytest.fixture(scope="module", params=SERVERS)
def shared_database_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The same for all tests of a module together."""
    yield from _new_database(request, tmp_path_factory.mktemp("auth"), template="migrated")


def _new_database(request: pytest.FixtureRequest, folder: Path, *, template: str) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite+aiosqlite:///{folder}/auth.db"
        return
    name = request.getfixturevalue("migrated") if template == "migrated" else template
    with request.getfixturevalue("postgres").copied(name) as url:
        yield url


def auth_settings(database_url: str, users: FakeUsers) -> AuthSettings:
    """Return settings with keys that are quick to make, and the patience that a busy machine needs."""
    return AuthSettings(
        database_url=database_url, users_url=users.url, users_timeout_seconds=60, signing_algorithm="ES256"
    )


@pytest.fixture
def settings(database_url: str, users: FakeUsers) -> AuthSettings:
    """An own database."""
    return auth_settings(database_url, users)


@pytest.fixture
async def client(settings: AuthSettings) -> AsyncIterator[httpx.AsyncClient]:
    """A service that has just started for the first time."""
    async with running(create_app(settings)) as client:
        yield client
