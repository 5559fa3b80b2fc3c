"""Fixtures that tests of more than one kind use."""

from collections.abc import Iterator

import pytest

from tests.postgres import Postgres, serve_postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real PostgreSQL server. Without the program the tests fail: they are not skipped."""
    with serve_postgres() as running:
        yield running
