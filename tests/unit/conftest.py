"""Fixtures that the unit tests of more than one service use."""

from collections.abc import Iterator

import pytest

from tests.issuer import Issuer, serve_issuer


@pytest.fixture(scope="session")
def issuer() -> Iterator[Issuer]:
    """Whose tokens the services under test take."""
    with serve_issuer() as running:
        yield running
