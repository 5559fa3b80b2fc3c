"""Services as they run in a container: under gunicorn, each in a process of its own."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import httpx

START_SECONDS = 90
"""For imports of torch on a machine that is busy."""


@dataclass(frozen=True)
class Server:
    """A server that was started; `process` is its master."""

    process: subprocess.Popen[str]
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def workers(self) -> list[int]:
        """Return the process ids of those who serve."""
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def wait_until_ready(self) -> None:
        gives_up_at = time.monotonic() + START_SECONDS
        with httpx.Client(base_url=self.url) as client:
            while self.process.poll() is None and time.monotonic() < gives_up_at:
                with contextlib.suppress(httpx.HTTPError):
                    if client.get("/readyz").status_code == 200:
                        return
                time.sleep(0.05)
        raise TimeoutError("the service is not ready")


@contextmanager
def serving(
    app: str, environment: Mapping[str, str], *, folder: Path | None = None, errors: IO[str] | None = None
) -> Iterator[Server]:
    """Start `app`, as in `auth_service.main:create_app()`, in `folder`, log in `errors`; at the end it is killed."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "--config", "python:servicekit.gunicorn", app],
        env={**os.environ, "HOST": "127.0.0.1", "PORT": str(port), **environment},
        cwd=folder,
        stderr=errors or (subprocess.PIPE if folder else None),
        text=True,
        process_group=0,
    )
    with process:
        try:
            yield Server(process, port)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
