"""Starts the product as a user does: four real processes on free ports."""

import os
import random
import shutil
import signal
import socket
import subprocess
import sysconfig
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

DATA = Path(__file__).parents[1] / "data"
START_SECONDS = 90


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

    def stop(self, *, with_signal: int = signal.SIGINT) -> int:
        """Stop as Ctrl-C does, and return the exit status."""
        self.process.send_signal(with_signal)
        return self.process.wait(timeout=30)


def free_ports() -> int:
    """Return the first of four free ports in a row; at random, for runs beside this one look for some, too."""
    for port in random.sample(range(18000, 28000, 4), 100):
        try:
            for offset in range(4):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port + offset))
        except OSError:
            continue
        return port
    raise RuntimeError("no four free ports in a row")


def start(data: Path, **environment: str) -> Pinhole:
    """Start the product and return when it says that it is ready."""
    port = free_ports()
    process = subprocess.Popen(
        [Path(sysconfig.get_path("scripts")) / "pinhole-run", "--port", str(port), "--data", str(data)],
        env={**os.environ, "LOG_LEVEL": "INFO", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    pinhole = Pinhole(port, data, process)
    ready = threading.Event()

    def read() -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                pinhole.output.append(line)
                if "curl" in line:
                    ready.set()
        ready.set()

    threading.Thread(target=read, daemon=True).start()
    is_ready = ready.wait(START_SECONDS) and process.poll() is None
    assert is_ready, "".join(pinhole.output)
    return pinhole


@pytest.fixture(scope="session")
def pinhole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pinhole]:
    """Run one product for all tests."""
    running = start(tmp_path_factory.mktemp("pinhole"))
    yield running
    assert running.stop() == 0, "".join(running.output)


@pytest.fixture(scope="session")
def chromium() -> str:
    """Where Chromium is. Without it the tests of the page fail: they are not skipped."""
    path = shutil.which("chromium")
    assert path, "Chromium is missing: apt-get install chromium"
    return path
