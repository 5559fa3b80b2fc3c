"""Classifies pictures for somebody with an account, for as long as it takes: the token is renewed before it is over.

    PINHOLE_USERNAME=ada PINHOLE_PASSWORD=... python examples/classify.py cat.jpg dog.jpg

PINHOLE_URL is where Pinhole is: http://localhost:8000 without it. Needs httpx.
"""

import os
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx

ATTEMPTS = 5
EARLY_SECONDS = 60
"""A token is renewed that long before it is over."""

DEVICE = {"User-Agent": "classify.py"}
"""What the list of one's sessions calls this program."""


class SignedIn(httpx.Auth):
    """Signs in with a password at the first request, and then goes on by refresh tokens."""

    requires_response_body = True

    def __init__(self, url: str, username: str, password: str) -> None:
        self._url = url
        self._form = {"grant_type": "password", "username": username, "password": password}
        self._access_token = ""
        self.renew_at = 0.0

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Get a token where there is none that lasts, and send it along."""
        if time.monotonic() >= self.renew_at:
            answer = yield httpx.Request("POST", f"{self._url}/token", data=self._form, headers=DEVICE)
            answer.raise_for_status()
            tokens = answer.json()
            self._access_token = tokens["access_token"]
            self.renew_at = time.monotonic() + tokens["expires_in"] - EARLY_SECONDS
            # Each refresh token is good once: the next one comes with the answer.
            self._form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
        request.headers["Authorization"] = f"Bearer {self._access_token}"
        yield request


def classify(http: httpx.Client, picture: Path) -> Any:
    """Return the answer for a picture; a service that is full says when to come again.

    Raises:
        httpx.HTTPStatusError: it is no picture, or there is no answer after all attempts.
    """
    for attempt in range(1, ATTEMPTS + 1):
        answer = http.post("/predict", files={"file": picture.read_bytes()})
        if answer.status_code not in (429, 503) or attempt == ATTEMPTS:
            break
        time.sleep(float(answer.headers["Retry-After"]))
    return answer.raise_for_status().json()


def main() -> None:
    """Print name, label and score of each picture."""
    url = os.environ.get("PINHOLE_URL", "http://localhost:8000")
    auth = SignedIn(url, os.environ["PINHOLE_USERNAME"], os.environ["PINHOLE_PASSWORD"])
    with httpx.Client(base_url=url, auth=auth, timeout=30) as http:
        for path in sys.argv[1:]:
            try:
                best = classify(http, Path(path))
            except httpx.HTTPStatusError as error:
                sys.exit(f"{path}: {error.response.text}")  # the reason, which the error itself does not tell
            print(path, best["label"], f"{best['score']:.3f}", sep="\t")


if __name__ == "__main__":
    main()
