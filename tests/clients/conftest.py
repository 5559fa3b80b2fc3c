"""The server that the clients are tried on, and the Python that has them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.inference_process import InferenceServer, serve_inference

PYTHON = Path(__file__).parents[2] / ".venv-clients" / "bin" / "python"


@pytest.fixture(scope="session")
def server() -> Iterator[InferenceServer]:
    """The running service."""
    with serve_inference() as running:
        yield running


@pytest.fixture(scope="session")
def clients_python() -> Path:
    """The interpreter of the environment with the clients."""
    if not PYTHON.exists():
        pytest.fail("the clients have an environment of their own, for they need an older protobuf: run `make setup`")
    return PYTHON
