"""Fixtures that the unit tests of more than one service use."""

import logging
from collections.abc import Iterator

import pytest
import structlog

from tests.issuer import Issuer, serve_issuer


@pytest.fixture(scope="session", autouse=True)
def captured_logs() -> None:
    """Log as libraries do, so that pytest keeps what a passing test logs to itself.

    With plain tracebacks: structlog's default renders every local variable, tensors too, for a minute.
    """
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["event"]),
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )


@pytest.fixture(scope="session")
def issuer() -> Iterator[Issuer]:
    """Whose tokens the services under test take."""
    with serve_issuer() as running:
        yield running


@pytest.fixture
def restored_logging() -> Iterator[None]:
    """Undo what a test does to the logging of this process."""
    root = logging.getLogger()
    handlers, level, structured = root.handlers[:], root.level, structlog.get_config()
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    structlog.configure(**structured)
