"""Pinhole in the cluster that KUBECONFIG names: installed once, reached through its ingress.

E2E_INGRESS is where the ingress controller answers (http://127.0.0.1:8080). E2E_VALUES is a file of further values,
as for a cluster that pulls from a registry of its own.
"""

import base64
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml

ROOT = Path(__file__).parents[2]
HOST = "pinhole.localhost"
RELEASE = NAMESPACE = "pinhole-e2e"
VALUES = {
    "global": {"publicUrl": f"http://{HOST}"},
    "users": {"replicaCount": 2, "config": {"signUp": "open"}},
    "auth": {"replicaCount": 2},
}


def run(*command: str, document: str | None = None) -> str:
    """Run a program and return what it prints."""
    done = subprocess.run(command, input=document, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


def kubectl(*arguments: str) -> str:
    """Run kubectl in the namespace of the release."""
    return run("kubectl", "--namespace", NAMESPACE, *arguments)


def install(*arguments: str) -> None:
    """Install or upgrade the release, and wait until all is ready."""
    files = ["--values", str(ROOT / "charts/pinhole/values-dev.yaml"), "--values", "-"]
    if more := os.environ.get("E2E_VALUES"):
        files += ["--values", more]
    chart = str(ROOT / "charts/pinhole")
    command = ["helm", "upgrade", RELEASE, chart, "--install", "--namespace", NAMESPACE, "--wait", "--timeout", "10m"]
    try:
        run(*command, *files, *arguments, document=yaml.safe_dump(VALUES))
    except AssertionError:
        print(kubectl("get", "pods,events", "--output", "wide"))
        raise


@dataclass(frozen=True)
class Product:
    """The installed release."""

    url: str
    seconds: float
    """From install to ready."""

    def http(self, token: str = "") -> httpx.Client:
        """Return a client that goes through the ingress."""
        headers = {"Host": HOST} | ({"Authorization": f"Bearer {token}"} if token else {})
        return httpx.Client(base_url=self.url, headers=headers, timeout=30)

    def sign_in(self, username: str, password: str) -> httpx.Client:
        """Return a client with a token of this account."""
        form = {"grant_type": "password", "username": username, "password": password}
        with self.http() as http:
            response = http.post("/token", data=form)
        assert response.status_code == 200, response.text
        return self.http(response.json()["access_token"])

    def admin_password(self) -> str:
        """Return the password that the chart has generated."""
        path = "jsonpath={.data.admin-password}"
        return base64.b64decode(kubectl("get", "secret", f"{RELEASE}-users", "--output", path)).decode()


@pytest.fixture(scope="session")
def product() -> Iterator[Product]:
    """Install into a new namespace that holds pods to the restricted standard; at the end nothing is left."""
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    }
    run("kubectl", "apply", "--filename", "-", document=yaml.safe_dump(namespace))
    try:
        started = time.monotonic()
        install()
        seconds = time.monotonic() - started
        print(f"ready {seconds:.0f} s after the install")
        yield Product(os.environ.get("E2E_INGRESS", "http://127.0.0.1:8080"), seconds)
        run("helm", "uninstall", RELEASE, "--namespace", NAMESPACE, "--wait")
        left = kubectl("get", "all,configmap,secret,ingress,networkpolicy,pdb", "--output", "name").split()
        assert [each for each in left if RELEASE in each and "sh.helm" not in each] == []
    finally:
        run("kubectl", "delete", "namespace", NAMESPACE, "--wait=false")
