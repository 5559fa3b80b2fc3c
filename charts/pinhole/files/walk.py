"""What `helm test` does: signs in as the administrator, reads the account, and has the sample picture classified."""

import pathlib
import sys
import time
from typing import Any

import httpx

PATIENCE_SECONDS = 120
AWAY = {502, 503, 504}

auth, users, inference, username = sys.argv[1:]
password = pathlib.Path(__file__).with_name("admin-password").read_text().strip()
sample = pathlib.Path(__import__("inference_service").__path__[0], "web", "sample-coffee.jpg").read_bytes()


def hint(response: httpx.Response) -> str:
    """Return a line on what is not the fault of a service."""
    if "invalid_grant" not in response.text:
        return ""
    return f"\nThe password in the Secret does not let {username} in: put the one into it that does."


def ask(http: httpx.Client, method: str, url: str, **content: Any) -> Any:
    """Return the answer as JSON. A Service may refuse for a moment, as just after a rollout: it is asked again."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            response = http.request(method, url, **content)
            if response.is_success:
                return response.json()
            if response.status_code not in AWAY or time.monotonic() > deadline:
                sys.exit(f"{method} {url}: {response.status_code} {response.text}{hint(response)}")
        except httpx.TransportError:
            if time.monotonic() > deadline:
                raise
        time.sleep(1)


with httpx.Client(timeout=30) as http:
    form = {"grant_type": "password", "username": username, "password": password}
    token = ask(http, "POST", f"{auth}/token", data=form)["access_token"]
    http.headers["Authorization"] = f"Bearer {token}"
    account = ask(http, "GET", f"{users}/users/me")
    if account["username"] != username:
        sys.exit(f"the token of {username} leads to {account['username']}")
    picture = {"content": sample, "headers": {"Content-Type": "image/jpeg"}}
    answer = ask(http, "POST", f"{inference}/predict", **picture)
    print(f"{answer['label']}: {answer['score']:.2f}")
