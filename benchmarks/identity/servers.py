"""Starts what is measured: auth and users as a laptop does, and the peer in an environment of its own."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
UV = Path(sys.executable).with_name("uv")
START_SECONDS = 60
ADMIN = ("admin", "correct horse battery staple")


def build_peer(folder: Path) -> Path:
    """Return the Python of the peer's environment, which is made once for each version of its lock."""
    python = folder / "bin" / "python"
    lock = HERE / "requirements.txt"
    stamp = folder / "lock"
    if not stamp.exists() or stamp.read_text() != lock.read_text():
        print("Installing the peer", file=sys.stderr)
        subprocess.run([UV, "venv", "--quiet", "--clear", "--python", sys.executable, folder], check=True)
        install: list[str | Path] = [
            UV,
            "pip",
            "install",
            "--quiet",
            "--python",
            python,
            "--require-hashes",
            "--requirement",
            lock,
        ]
        subprocess.run(install, check=True)
        stamp.write_text(lock.read_text())
    return python


@contextmanager
def serving(python: Path | str, application: str, port: int, ready: str, **environment: str) -> Iterator[str]:
    """Run one application with the server command that all share, from its first answer on, and yield its address."""
    address = f"http://127.0.0.1:{port}"
    server = (python, "-m", "uvicorn", application, "--factory", "--host", "127.0.0.1", "--port", str(port))
    quiet = ("--no-access-log", "--log-level", "warning", "--timeout-keep-alive", "600")
    process = subprocess.Popen([*server, *quiet], env={**os.environ, **environment}, cwd=HERE)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(address + ready):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{application} does not start")
            time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=30)


@contextmanager
def serving_pinhole(folder: Path) -> Iterator[tuple[str, str]]:
    """Run auth and users on SQLite, and yield their addresses."""
    auth_port, users_port = free_port(), free_port()
    auth_url, users_url = f"http://127.0.0.1:{auth_port}", f"http://127.0.0.1:{users_port}"
    common = {"LOG_LEVEL": "ERROR"}
    tokens = {"ISSUER": auth_url, "AUDIENCE": "pinhole"}
    auth = {
        "TOKEN_REQUESTS_PER_MINUTE": "1000000",
        "USERS_URL": users_url,
        "DATABASE_URL": f"sqlite+aiosqlite:///{folder}/auth.db",
        **tokens,
    }
    users = {
        "AUTH_URL": auth_url,
        "DATABASE_URL": f"sqlite+aiosqlite:///{folder}/users.db",
        "ADMIN_USERNAME": ADMIN[0],
        "ADMIN_PASSWORD": ADMIN[1],
        **tokens,
    }
    with ExitStack() as stack:
        for package, port, prefix, variables in (
            ("auth_service", auth_port, "AUTH_", auth),
            ("users_service", users_port, "USERS_", users),
        ):
            named = {prefix + name: value for name, value in variables.items()}
            ready = "/livez" if package == "auth_service" else "/readyz"
            stack.enter_context(serving(sys.executable, f"{package}.main:create_app", port, ready, **common, **named))
        yield auth_url, users_url


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code < 500
    except httpx.TransportError:
        return False
