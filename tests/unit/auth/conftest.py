"""An auth service for each test, with users beside it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from auth_service.main import create_app
from auth_service.settings import AuthSettings

from tests.asgi import running
from tests.unit.auth.fake_users import FakeUsers, serve_users


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


def auth_settings(folder: Path, users: FakeUsers) -> AuthSettings:
    """Return settings with a database in `folder`, and keys that are quick to make."""
    return AuthSettings(
        database_url=f"sqlite+aiosqlite:///{folder}/auth.db", users_url=users.url, signing_algorithm="ES256"
    )


@pytest.fixture
def settings(tmp_path: Path, users: FakeUsers) -> AuthSettings:
    """An own database."""
    return auth_settings(tmp_path, users)


@pytest.fixture
async def client(settings: AuthSettings) -> AsyncIterator[httpx.AsyncClient]:
    """A service that has just started for the first time."""
    async with running(create_app(settings)) as client:
        yield client
