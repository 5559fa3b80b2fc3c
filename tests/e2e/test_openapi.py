"""The services against their own OpenAPI documents: every check of schemathesis, none left out."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Pinhole, started

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def pinhole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pinhole]:
    """A product of its own: what is made up here may rename or delete anybody."""
    with started(tmp_path_factory.mktemp("checked")) as running:
        yield running


@pytest.fixture
def token(pinhole: Pinhole) -> str:
    """Sign in for one service: what is made up may end every session."""
    return pinhole.token(pinhole.admin_username, pinhole.admin_password)


@pytest.mark.parametrize("name", ["auth", "users", "inference"])
@pytest.mark.timeout(300)
def test_a_service_does_what_its_document_says(pinhole: Pinhole, token: str, name: str, tmp_path: Path) -> None:
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(HERE / "schemathesis.toml")),
        *("run", f"{pinhole.url}/openapi/{name}.json", "--url", pinhole.url, "--no-color"),
        *("--header", f"Authorization: Bearer {token}"),
        *("--max-examples", "25", "--seed", "1", "--checks", "all"),
    ]
    run = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "tests.e2e.schemathesis_hooks", "PYTHONPATH": str(HERE.parents[1])},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr[-2000:]
