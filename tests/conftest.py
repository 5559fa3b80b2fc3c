"""Fixtures that tests of more than one kind use."""

from collections.abc import Iterator
from functools import cache

import httpx
import pytest

from tests.postgres import Postgres, serve_postgres


@pytest.fixture(scope="session", autouse=True)
def certificates() -> Iterator[None]:
    """Read the certificates of authorities once: httpx does for each client, for longer than most tests take."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("httpx._transports.default.create_ssl_context", cache(httpx.create_ssl_context))
        yield


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real PostgreSQL server. Without the program the tests fail: they are not skipped."""
    with serve_postgres() as running:
        yield running
