"""An installed release as its users see it: through the ingress."""

import base64
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.cluster.releases import Release, run, until

INGRESS = os.environ.get("E2E_INGRESS", "http://127.0.0.1:8080")
PASSWORD = "a long enough password"
PICTURE = Path(__file__).parents[1] / "data" / "chelsea.png"
TIGER_CAT = 282
"""The class that the built-in model gives `PICTURE`."""


@dataclass(frozen=True)
class Product:
    """A release, and the host by which the ingress knows it."""

    release: Release
    host: str
    seconds: float = 0.0
    """From install to ready."""

    @property
    def origin(self) -> str:
        """The issuer of its tokens."""
        return f"http://{self.host}"

    def http(self, token: str = "") -> httpx.Client:
        """Return a client that goes through the ingress."""
        headers = {"Host": self.host} | ({"Authorization": f"Bearer {token}"} if token else {})
        return httpx.Client(base_url=INGRESS, headers=headers, timeout=120)

    def sign_up(self, username: str) -> httpx.Client:
        """Make an account and return a client with a token of it."""
        body = {"username": username, "email": f"{username}@example.com", "password": PASSWORD}
        with self.http() as http:
            self.ask(lambda: http.post("/users", json=body), status=201)
        return self.sign_in(username, PASSWORD)

    def sign_in(self, username: str, password: str) -> httpx.Client:
        """Return a client with a token of an account."""
        form = {"grant_type": "password", "username": username, "password": password}
        with self.http() as http:
            response = self.ask(lambda: http.post("/token", data=form))
        return self.http(response.json()["access_token"])

    def sign_in_as_administrator(self) -> httpx.Client:
        """Return a client with a token of the administrator, whose password the chart has generated."""
        return self.sign_in("admin", self.secret("users", "admin-password"))

    def secret(self, service: str, key: str) -> str:
        """Return what a Secret of the release holds."""
        found = self.release.read("secret", f"{self.release.name}-{service}")["data"][key]
        return base64.b64decode(found).decode()

    def ask(self, send: Callable[[], httpx.Response], *, status: int = 200) -> httpx.Response:
        """Return the answer, when it has the status; a busy machine may need more than one try.

        So does an ingress controller that has not heard of the release yet: its 404 is no problem document.

        Raises:
            AssertionError: it has another one.
        """
        last = ""

        def answer() -> httpx.Response | None:
            nonlocal last
            try:
                response = send()
            except httpx.TransportError as error:
                last = repr(error)
                return None
            last = f"{response.status_code} {response.text}"
            if response.status_code == 404 != status and not response.headers["Content-Type"].endswith("json"):
                return None
            assert response.status_code in {status, 429, 502, 503, 504}, last
            return response if response.status_code == status else None

        return until(f"the status {status}", answer, explain=lambda: f"{last}\n{self.release.explain()}")

    def image(self, service: str) -> str:
        """Return the image that a service runs."""
        spec = self.release.read("deployment", f"{self.release.name}-{service}")["spec"]["template"]["spec"]
        return str(spec["containers"][0]["image"])

    def wait_for(self, service: str) -> None:
        """Wait until a rollout is done."""
        self.release.kubectl("rollout", "status", f"deployment/{self.release.name}-{service}", "--timeout=600s")

    def helm(self, command: str, *arguments: str) -> str:
        """Run a command of Helm on the release."""
        return run("helm", command, self.release.name, "--namespace", self.release.namespace, *arguments)


def predict(http: httpx.Client) -> httpx.Response:
    """Have the picture classified."""
    return http.post("/predict", content=PICTURE.read_bytes(), headers={"Content-Type": "image/png"})
