"""The clients that JavaScript and Go programs use, against the running product: see tests/clients."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest

from tests.e2e.conftest import Pinhole, register_client

CLIENTS = Path(__file__).parents[1] / "clients"


def program(name: str, package: str) -> str:
    """Return where a program is. Without it these tests fail: they are not skipped."""
    path = shutil.which(name)
    assert path, f"{name} is missing: apt-get install {package}"
    return path


def run(*command: str, folder: Path, environment: Mapping[str, str]) -> None:
    finished = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=280,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout[-20_000:]


@pytest.fixture(scope="module")
def environment(pinhole: Pinhole, admin: httpx.Client) -> Mapping[str, str]:
    """Where the product is, who may sign in to it, and the clients that it knows."""
    pinhole.sign_up("linus").close()
    return {
        "PINHOLE_URL": pinhole.url,
        "PINHOLE_USERNAME": "linus",
        "PINHOLE_PASSWORD": "correct horse linus",
        "PINHOLE_BASIC_ID": "reports-basic",
        "PINHOLE_BASIC_SECRET": register_client(admin, "reports-basic", "client_secret_basic", "users:read"),
        "PINHOLE_POST_ID": "reports-post",
        "PINHOLE_POST_SECRET": register_client(admin, "reports-post", "client_secret_post", "users:read"),
    }


@pytest.fixture(scope="module")
def packages() -> Path:
    """The folder of the JavaScript clients, with their packages as locked."""
    folder = CLIENTS / "npm"
    installed = folder / "node_modules" / ".package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < (folder / "package-lock.json").stat().st_mtime:
        run(program("npm", "npm"), "ci", "--no-audit", "--no-fund", folder=folder, environment={})
    return folder


@pytest.mark.timeout(300)
def test_javascript_clients_work_unmodified(environment: Mapping[str, str], packages: Path) -> None:
    run(program("node", "nodejs"), "--test", "clients.test.mjs", folder=packages, environment=environment)


@pytest.mark.timeout(300)
def test_go_clients_work_unmodified(environment: Mapping[str, str]) -> None:
    # GOWORK: a workspace of whoever runs this is not ours. CGO: a C compiler would be needed.
    settings = {"GOWORK": "off", "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly"}
    run(
        program("go", "golang-go"),
        "test",
        "-count=1",
        ".",
        folder=CLIENTS / "go",
        environment={**settings, **environment},
    )
