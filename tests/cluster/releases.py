"""Releases for one purpose each, in namespaces of their own, beside the one that conftest.py installs."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts/pinhole"
Object = dict[str, Any]
T = TypeVar("T")

ECHO = """
import http.server, json, os, signal, sys

class Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = json.dumps({"service": sys.argv[1], "path": self.path}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_DELETE = answer

signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
http.server.ThreadingHTTPServer(("", 8000), Echo).serve_forever()
"""
"""A service that answers every path, and says which one it is."""


def echo(service: str) -> Object:
    """Return the values of a service that does nothing but `ECHO`, in the smallest of our images."""
    return {
        "image": {"repository": "pinhole/auth"},
        "command": ["python", "-c", ECHO, service],
        "replicaCount": 1,
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
        "shutdown": {"preStopSleepSeconds": 0, "gracefulTimeoutSeconds": 6},
    }


def without_database(service: str) -> Object:
    """Return the values of a service with a database that stands in for it with `ECHO`, and needs none."""
    database = {"host": "database", "existingSecret": "", "password": "none"}
    return echo(service) | {"database": database, "migrations": {"initContainer": False}}


def needs(found: bool, what: str) -> None:
    """Skip what this cluster cannot show; with E2E_COMPLETE=1, as in CI, that is a failure.

    Raises:
        pytest.skip.Exception: `what` is missing.
    """
    if not found and os.environ.get("E2E_COMPLETE") == "1":
        pytest.fail(f"this cluster has no {what}, and E2E_COMPLETE asks for all")
    if not found:
        pytest.skip(f"this cluster has no {what}")


def kubectl(*arguments: str, document: str | None = None) -> str:
    """Run kubectl and return what it prints."""
    return run("kubectl", *arguments, document=document)


def read(*arguments: str) -> Object:
    """Return what `kubectl get` finds."""
    found: Object = json.loads(kubectl("get", *arguments, "--output", "json"))
    return found


def apply(*objects: Object) -> None:
    """Create or change objects."""
    kubectl("apply", "--filename", "-", document=yaml.safe_dump_all(objects))


def serves(group: str) -> bool:
    """Tell whether the cluster has an API group and version."""
    return group in kubectl("api-versions").split()


def run(*command: str, document: str | None = None, timeout: float = 900) -> str:
    """Run a program and return what it prints.

    Raises:
        AssertionError: it failed; with what it has said.
    """
    done = subprocess.run(command, input=document, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


@dataclass(frozen=True)
class Release:
    """Pinhole, installed under a name in a namespace."""

    name: str
    namespace: str

    def kubectl(self, *arguments: str, document: str | None = None) -> str:
        """Run kubectl in the namespace."""
        return kubectl("--namespace", self.namespace, *arguments, document=document)

    def read(self, *arguments: str) -> Object:
        """Return what `kubectl get` finds in the namespace."""
        return read("--namespace", self.namespace, *arguments)

    def install(self, values: Mapping[str, Any], *files: Path, wait: bool = True) -> None:
        """Install or upgrade; `files` of values come before `values`, and E2E_VALUES after both."""
        command = [
            "helm",
            "upgrade",
            self.name,
            str(CHART),
            "--install",
            "--namespace",
            self.namespace,
            "--timeout",
            "10m",
        ]
        command += [part for path in files for part in ("--values", str(path))] + ["--values", "-"]
        if more := os.environ.get("E2E_VALUES"):
            command += ["--values", more]
        try:
            run(*command, *(["--wait"] if wait else []), document=yaml.safe_dump(dict(values)))
        except AssertionError:
            print(self.explain())
            raise

    def uninstall(self) -> None:
        """Remove the release."""
        run("helm", "uninstall", self.name, "--namespace", self.namespace, "--wait", "--timeout", "5m")

    def pods(self, service: str) -> list[Object]:
        """Return the pods of a service that are not at their end."""
        selector = f"app.kubernetes.io/name={service},app.kubernetes.io/instance={self.name}"
        found: list[Object] = self.read("pods", "--selector", selector)["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def until(self, what: str, condition: Callable[[], T | None], *, seconds: float = 120) -> T:
        """Look every second until there is what is waited for, and return it.

        Raises:
            AssertionError: it did not come; with the pods and events of the namespace.
        """
        return until(what, condition, seconds=seconds, explain=self.explain)

    def explain(self) -> str:
        """Return the pods and the latest events of the namespace."""
        pods = self.kubectl("get", "pods", "--output", "wide")
        events = self.kubectl("get", "events", "--sort-by", ".lastTimestamp").splitlines()
        return "\n".join([pods, *events[-25:], *self._last_words()])

    def _last_words(self) -> list[str]:
        """Return how the containers have ended that had to be started again."""
        said = []
        for pod in self.read("pods")["items"]:
            for container in pod["status"].get("containerStatuses", []):
                if container["restartCount"]:
                    name = pod["metadata"]["name"], container["name"]
                    said += [" ".join(name), self.kubectl("logs", "--previous", "--tail=15", name[0], "-c", name[1])]
        return said


def until(what: str, condition: Callable[[], T | None], *, seconds: float = 120, explain: Callable[[], str] = str) -> T:
    """Look every second until there is what is waited for, and return it.

    Raises:
        AssertionError: it did not come; with what `explain` returns.
    """
    deadline = time.monotonic() + seconds
    while True:
        if found := condition():
            return found
        assert time.monotonic() < deadline, f"after {seconds} s not: {what}\n{explain()}"
        time.sleep(1)


@contextmanager
def release(name: str) -> Iterator[Release]:
    """Make a namespace that holds pods to the restricted standard; at the end it is gone with all that is in it."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    try:
        yield Release(name, name)
    finally:
        kubectl("delete", "namespace", name, "--wait=false")
