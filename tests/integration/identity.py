"""Auth and users as replicas: real processes that share a PostgreSQL server."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.e2e.conftest import free_ports
from tests.postgres import Postgres

ROOT = Path(__file__).parents[2]
START_SECONDS = 90
ATTEMPTS = 10
ADMIN_PASSWORD = "correct horse of the administrator"
PATIENCE = {"DATABASE_POOL_WAIT_SECONDS": "60", "DATABASE_LOCK_SECONDS": "60", "DATABASE_STATEMENT_SECONDS": "60"}
"""On a machine that is busy with other tests nothing may fail for being slow."""


@dataclass
class Process:
    """A server of its own, and what it has logged."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path


@dataclass
class Identity:
    """Two replicas of auth, two of users; and a third auth that dies when it is asked to."""

    auths: list[Process] = field(default_factory=list)
    users: list[Process] = field(default_factory=list)
    doomed: Process | None = None

    def logged(self) -> str:
        return "".join(process.log.read_text() for process in (*self.auths, *self.users))


@contextmanager
def serving(factory: str, port: int, variables: Mapping[str, str], log: Path) -> Iterator[Process]:
    """Run one server until the end."""
    command = [sys.executable, "-m", "uvicorn", factory, "--factory", "--port", str(port), "--no-access-log"]
    command += ["--timeout-keep-alive", "75"]  # clients keep their connections for 5 s, as the server would do
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **variables}, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            yield Process(f"http://127.0.0.1:{port}", process, log)
        finally:
            process.terminate()
            process.wait(timeout=30)


def wait_until_ready(process: Process) -> None:
    give_up_at = time.monotonic() + START_SECONDS
    while time.monotonic() < give_up_at and process.process.poll() is None:
        try:
            if httpx.get(f"{process.url}/readyz").status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    raise TimeoutError(process.log.read_text())


@contextmanager
def serve_identity(postgres: Postgres, names: Mapping[str, str], folder: Path, **variables: str) -> Iterator[Identity]:
    """Run the replicas on the databases `names["auth"]` and `names["users"]`."""
    ports = [free_ports(), free_ports()]
    shared = {"LOG_LEVEL": "INFO", "LOG_FORMAT": "json"}
    identity = Identity()
    with ExitStack() as stack:

        def start(factory: str, port: int, own: Mapping[str, str]) -> Process:
            log = folder / f"{port}.log"
            return stack.enter_context(serving(factory, port, {**shared, **own, **variables}, log))

        for first in ports:
            auth = {
                "AUTH_DATABASE_URL": postgres.url(names["auth"]),
                "AUTH_USERS_URL": f"http://127.0.0.1:{first + 1}",
                "AUTH_USERS_TIMEOUT_SECONDS": "60",
                **{f"AUTH_{name}": value for name, value in PATIENCE.items()},
            }
            users = {
                "USERS_DATABASE_URL": postgres.url(names["users"]),
                "USERS_AUTH_URL": f"http://127.0.0.1:{first}",
                "USERS_ADMIN_PASSWORD": ADMIN_PASSWORD,
                "USERS_SIGN_UP": "open",
                "USERS_ATTEMPTS_PER_NAME_AND_ADDRESS": str(ATTEMPTS),
                **{f"USERS_{name}": value for name, value in PATIENCE.items()},
            }
            identity.auths.append(start("auth_service.main:create_app", first, auth))
            identity.users.append(start("users_service.main:create_app", first + 1, users))
            if identity.doomed is None:
                identity.doomed = start("tests.integration.doomed_auth:create_app", first + 2, auth)
        assert identity.doomed is not None
        for process in (*identity.auths, *identity.users, identity.doomed):
            wait_until_ready(process)
        yield identity
