"""Fixtures that the unit tests of more than one service use."""

import logging
from collections.abc import Iterator

import pytest
import structlog

from tests.issuer import Issuer, serve_issuer


@pytest.fixture(scope="session")
def issuer() -> Iterator[Issuer]:
    """Whose tokens the services under test take."""
    with serve_issuer() as running:
        yield running


@pytest.fixture
def restored_logging() -> Iterator[None]:
    """Undo what a test does to the logging of this process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    structlog.reset_defaults()
