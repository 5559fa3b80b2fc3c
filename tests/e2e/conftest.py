"""Starts the product as a user does: four real processes on free ports."""

import os
import random
import shutil
import signal
import socket
import subprocess
import sysconfig
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

DATA = Path(__file__).parents[1] / "data"
START_SECONDS = 90
ESPRESSO = 967
"""The class of coffee.png."""


@dataclass
class Pinhole:
    """A running product. Its services listen on the three ports after `port`."""

    port: int
    data: Path
    process: subprocess.Popen[str]
    output: list[str] = field(default_factory=list)

    admin_username: str = "admin"

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    @property
    def admin_password(self) -> str:
        return (self.data / "admin-password").read_text().strip()

    def service_url(self, name: str) -> str:
        """Where one of the processes answers without the gateway."""
        return f"http://127.0.0.1:{self.port + ['gateway', 'auth', 'users', 'inference'].index(name)}"

    def process_id(self, name: str) -> int:
        """Return the process that listens on a service's port, from the kernel's tables."""
        port = int(self.service_url(name).rsplit(":", 1)[1])
        inodes = {
            line.split()[9]
            for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
            if line.split()[3] == "0A" and int(line.split()[1].split(":")[1], 16) == port
        }
        for process in Path("/proc").iterdir():
            if process.name.isdecimal():
                try:
                    links = [str(link.readlink()) for link in (process / "fd").iterdir()]
                except OSError:
                    continue
                if any(f"socket:[{inode}]" in links for inode in inodes):
                    return int(process.name)
        raise LookupError(f"nothing listens on {port}")

    def wait_for(self, part: str) -> None:
        """Return when a line that holds `part` was printed."""
        gives_up_at = time.monotonic() + 30
        while not any(part in line for line in self.output):
            assert time.monotonic() < gives_up_at, "".join(self.output)
            time.sleep(0.05)

    def token(self, username: str, password: str) -> str:
        form = {"grant_type": "password", "username": username, "password": password}
        response = httpx.post(f"{self.url}/token", data=form, timeout=30)
        assert response.status_code == 200, response.text
        return str(response.json()["access_token"])

    def admin(self) -> httpx.Client:
        """Return a client of the administrator."""
        return self.client(self.admin_username, self.admin_password)

    def client(self, username: str, password: str) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.token(username, password)}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30)

    def sign_up(self, username: str) -> httpx.Client:
        """Create an account and return a client that is signed in to it."""
        password = f"correct horse {username}"
        body = {"username": username, "email": f"{username}@example.com", "password": password}
        response = httpx.post(f"{self.url}/users", json=body, timeout=30)
        assert response.status_code == 201, response.text
        return self.client(username, password)


def free_ports() -> int:
    """Return the first of six free ports in a row; at random, for runs beside this one look for some, too."""
    for port in random.sample(range(18000, 28000, 6), 100):
        try:
            for offset in range(6):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port + offset))
        except OSError:
            continue
        return port
    raise RuntimeError("no six free ports in a row")


@contextmanager
def started(data: Path, **environment: str) -> Iterator[Pinhole]:
    """Run the product from the moment that it says it is ready until the test is done; Ctrl-C has to end it well."""
    port = free_ports()
    process = subprocess.Popen(
        [Path(sysconfig.get_path("scripts")) / "pinhole-run", "--port", str(port), "--data", str(data)],
        env={**os.environ, "LOG_LEVEL": "INFO", "INFERENCE_MODE_SEARCH_SECONDS": "0", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    pinhole = Pinhole(port, data, process)
    ready = threading.Event()

    def read() -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                pinhole.output.append(line)
                if line.startswith("curl"):
                    ready.set()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        assert ready.wait(START_SECONDS), "".join(pinhole.output)
        yield pinhole
    finally:
        process.send_signal(signal.SIGINT)
        status = process.wait(timeout=30)
        reader.join()
    assert status == 0, "".join(pinhole.output)


@pytest.fixture(scope="session")
def pinhole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pinhole]:
    """Run one product for all tests."""
    with started(tmp_path_factory.mktemp("pinhole")) as running:
        yield running


@pytest.fixture(scope="session")
def password_of_rosalind(pinhole: Pinhole) -> str:
    """The password of a user who signed up by herself."""
    pinhole.sign_up("rosalind").close()
    return "correct horse rosalind"


@pytest.fixture(scope="module")
def rosalind(pinhole: Pinhole, password_of_rosalind: str) -> Iterator[httpx.Client]:
    """A user, signed in anew for each file: all of them take longer than a token lasts."""
    with pinhole.client("rosalind", password_of_rosalind) as client:
        yield client


@pytest.fixture(scope="module")
def admin(pinhole: Pinhole) -> Iterator[httpx.Client]:
    """The first administrator, signed in anew for each file."""
    with pinhole.admin() as client:
        yield client


def register_client(admin: httpx.Client, client_id: str, method: str, **fields: Any) -> str:
    """Register an OAuth client that reads accounts for itself, and return its secret."""
    body = {"id": client_id, "name": client_id, "scopes": ["users:read"], "token_endpoint_auth_method": method}
    response = admin.post("/clients", json=body | fields)
    assert response.status_code == 201, response.text
    return str(response.json()["secret"])


def assert_problem(response: httpx.Response, status: int) -> None:
    """Check that an answer is a problem of this status, and that it tells nothing of our insides."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["status"] == status
    assert "Traceback" not in response.text


@pytest.fixture(scope="session")
def chromium() -> str:
    """Where Chromium is. Without it the tests of the page fail: they are not skipped."""
    path = shutil.which("chromium")
    assert path, "Chromium is missing: apt-get install chromium"
    return path
