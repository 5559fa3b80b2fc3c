"""The services against their own OpenAPI documents: every check of schemathesis, none left out."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.conftest import Pinhole, started

HERE = Path(__file__).parent


@pytest.fixture
def pinhole(tmp_path: Path) -> Iterator[Pinhole]:
    """A product for each run: what is made up may rename or delete anybody, and end every session."""
    # Wrong passwords by the hundred are what is asked for here.
    counted = ("USERS_ATTEMPTS_PER_NAME_AND_ADDRESS", "USERS_ATTEMPTS_PER_ADDRESS", "USERS_ATTEMPTS_PER_NAME")
    limits = (*counted, "AUTH_TOKEN_REQUESTS_PER_MINUTE")
    with started(tmp_path / "checked", **dict.fromkeys(limits, "1000000")) as running:
        yield running


def count_links(document_url: str) -> int:
    """Return how many links a document declares."""
    paths = httpx.get(document_url, timeout=30).raise_for_status().json()["paths"]
    operations = [operation for path in paths.values() for operation in path.values()]
    return sum(
        len(response.get("links", {})) for operation in operations for response in operation["responses"].values()
    )


def assert_links_were_followed(output: str, *, declared: int) -> None:
    """Check that schemathesis went from answers to requests that are made of them, and knew of every such way."""
    assert "✅ Stateful" in output, output[-20_000:]
    links = re.search(r"API Links: +(\d+) covered / (\d+) selected / (\d+) total", output)
    assert links, output[-20_000:]
    covered, selected, total = map(int, links.groups())
    assert selected == total >= declared
    assert covered > 0


@pytest.mark.parametrize("name", ["auth", "users", "inference"])
@pytest.mark.timeout(300)
def test_a_service_does_what_its_document_says(pinhole: Pinhole, name: str, tmp_path: Path) -> None:
    hooks = {
        "SCHEMATHESIS_HOOKS": "tests.e2e.schemathesis_hooks",
        "PYTHONPATH": os.pathsep.join(filter(None, (str(HERE.parents[1]), os.environ.get("PYTHONPATH")))),
        "PINHOLE_URL": pinhole.url,
        "PINHOLE_USERNAME": pinhole.admin_username,
        "PINHOLE_PASSWORD": pinhole.admin_password,
    }
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(HERE / "schemathesis.toml")),
        *("run", f"{pinhole.url}/openapi/{name}.json", "--url", pinhole.url, "--no-color"),
        *("--max-examples", "25", "--seed", "1", "--checks", "all"),
    ]
    run = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, **hooks},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr[-2000:]
    assert_links_were_followed(run.stdout, declared=count_links(f"{pinhole.url}/openapi/{name}.json"))
