"""A Prometheus of the tests' own: Debian's server on a free loopback port, its data in a temporary folder."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

START_SECONDS = 60
SCRAPE_SECONDS = 1


@dataclass(frozen=True)
class Target:
    """What is scraped: `host:port`, and the labels that its series get."""

    address: str
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Prometheus:
    """A running server."""

    url: str
    process: "subprocess.Popen[bytes]"

    def query(self, text: str) -> list[dict[str, Any]]:
        """Return the series that a query answers now.

        Raises:
            ValueError: it cannot be parsed or executed.
        """
        found: list[dict[str, Any]] = self._ask("query", query=text)["result"]
        return found

    def exemplars(self, text: str) -> list[dict[str, Any]]:
        """Return the series of a query that have exemplars from the last five minutes, with them."""
        found: list[dict[str, Any]] = self._ask(
            "query_exemplars", query=text, start=time.time() - 300, end=time.time() + 60
        )
        return found

    def wait_for(self, text: str, *, timeout_seconds: float = 60) -> list[dict[str, Any]]:
        """Return what a query answers when it answers something."""
        gives_up_at = time.monotonic() + timeout_seconds
        while not (found := self.query(text)):
            assert time.monotonic() < gives_up_at, f"still no series: {text}"
            time.sleep(0.2)
        return found

    def _ask(self, path: str, **parameters: Any) -> Any:
        response = httpx.post(f"{self.url}/api/v1/{path}", data=parameters, timeout=60)
        body = response.json()
        if body["status"] != "success":
            raise ValueError(f"{body['error']}: {parameters['query']}")
        return body["data"]


@contextmanager
def serve_prometheus(folder: Path, targets: Sequence[Target], *, rules: Sequence[Path] = ()) -> Iterator[Prometheus]:
    """Run a server that scrapes `targets` and evaluates `rules` each second, until the end.

    Raises:
        FileNotFoundError: Prometheus is not installed.
    """
    every = f"{SCRAPE_SECONDS}s"
    config = {
        "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
        "rule_files": [str(path) for path in rules],
        "scrape_configs": [
            {
                "job_name": "pinhole",
                "static_configs": [{"targets": [target.address], "labels": dict(target.labels)} for target in targets],
            }
        ],
    }
    file = folder / "prometheus.yaml"
    file.write_text(yaml.safe_dump(config))
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    arguments = [
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
        "--enable-feature=exemplar-storage",
        "--log.level=warn",
    ]
    process = subprocess.Popen([find_program("prometheus"), *arguments], cwd=folder)
    with process:
        try:
            _wait_until_ready(f"http://{address}", process)
            yield Prometheus(f"http://{address}", process)
        finally:
            process.kill()


def find_program(name: str) -> str:
    """Return where a program of the package is.

    Raises:
        FileNotFoundError: it is not installed.
    """
    found = shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"{name} is missing: apt-get install prometheus")
    return found


def _wait_until_ready(url: str, process: "subprocess.Popen[bytes]") -> None:
    gives_up_at = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < gives_up_at:
        with suppress(httpx.HTTPError):
            if httpx.get(f"{url}/-/ready").status_code == 200:
                return
        time.sleep(0.05)
    raise TimeoutError("Prometheus is not ready")
