"""Fixtures of the users service's tests."""

from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from users_service.dependencies import get_passwords
from users_service.passwords import Passwords

from tests.issuer import Issuer
from tests.unit.users.driver import Users, serving, users_settings


@pytest.fixture(scope="session")
def cheap_passwords() -> Iterator[Passwords]:
    """A hash pool for tests that are not about the cost of a hash."""
    with ThreadPoolExecutor(1) as executor:
        yield Passwords(PasswordHash([Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1)]), executor, capacity=99)


@pytest.fixture
async def users(tmp_path: Path, issuer: Issuer, cheap_passwords: Passwords) -> AsyncIterator[Users]:
    """A service where administrators create accounts."""
    async with serving(users_settings(tmp_path, issuer), issuer) as service:
        service.app.dependency_overrides[get_passwords] = lambda: cheap_passwords
        yield service


@pytest.fixture
async def open_users(tmp_path: Path, issuer: Issuer, cheap_passwords: Passwords) -> AsyncIterator[Users]:
    """A service where everybody signs up."""
    async with serving(users_settings(tmp_path, issuer, sign_up="open"), issuer) as service:
        service.app.dependency_overrides[get_passwords] = lambda: cheap_passwords
        yield service
