"""The product while it runs: services that are away, restarts, logs and metrics."""

import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from tests.e2e.conftest import DATA, ESPRESSO, Pinhole, started


@contextmanager
def frozen(pinhole: Pinhole, name: str) -> Iterator[None]:
    """Stop a service's process where it stands: it takes connections and answers none."""
    pid = pinhole.process_id(name)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_without_users_a_sign_in_is_503_and_the_rest_goes_on(pinhole: Pinhole, rosalind: httpx.Client) -> None:
    form = {"grant_type": "password", "username": "rosalind", "password": "correct horse rosalind"}
    with frozen(pinhole, "users"):
        refused = httpx.post(f"{pinhole.url}/token", data=form, timeout=30)
        assert refused.status_code == 503
        assert refused.json()["error"] == "temporarily_unavailable"
        assert int(refused.headers["retry-after"]) > 0
        assert rosalind.get("/models").status_code == 200
    assert httpx.post(f"{pinhole.url}/token", data=form, timeout=30).status_code == 200


def test_without_auth_a_prediction_with_a_valid_token_goes_on(pinhole: Pinhole, rosalind: httpx.Client) -> None:
    picture = (DATA / "coffee.png").read_bytes()
    with frozen(pinhole, "auth"):
        answer = rosalind.post("/predict", content=picture, headers={"Content-Type": "image/png"})
    assert answer.json()["predicted_class"] == ESPRESSO


def held_open(url: str, path: str, media_type: str) -> socket.socket:
    """Return the connection of a request that its service reads, and that never ends."""
    address = urlsplit(url)
    connection = socket.create_connection((str(address.hostname), int(str(address.port))), timeout=10)
    head = f"POST {path} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: {media_type}\r\n"
    connection.sendall(f"{head}Content-Length: 9\r\nExpect: 100-continue\r\n\r\n".encode())
    assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
    return connection


def test_the_end_of_all_is_no_loss_of_one_and_a_real_loss_is_told(tmp_path: Path) -> None:
    with started(tmp_path) as pinhole:
        with frozen(pinhole, "auth"):
            pinhole.wait_for("revocations_lost")
        pinhole.wait_for("revocations_regained")
        before = len(pinhole.output)
        # These two are still there, and ask each other and those who have gone, for as long as requests may go on.
        held = [
            held_open(pinhole.service_url("users"), "/users", "application/json"),
            held_open(pinhole.service_url("auth"), "/token", "application/x-www-form-urlencoded"),
        ]
    for connection in held:
        connection.close()
    last = "".join(pinhole.output[before:])
    assert "Cancel 1 running task" in last
    for event in ("revocations_lost", "account_events_lost", "jwks_fetch_failed"):
        assert event not in last


def test_accounts_and_sessions_outlive_a_restart(tmp_path: Path) -> None:
    form = {"grant_type": "password", "username": "grace", "password": "correct horse grace"}
    with started(tmp_path) as first:
        password = first.admin_password
        first.sign_up("grace").close()
        kept = httpx.post(f"{first.url}/token", data=form).json()
    assert password in "".join(first.output)
    with started(tmp_path) as second:
        form = {"grant_type": "refresh_token", "refresh_token": kept["refresh_token"]}
        again = httpx.post(f"{second.url}/token", data=form).json()
        # The issuer is the origin, which has moved to another port with this start.
        headers = {"Authorization": f"Bearer {again['access_token']}"}
        assert httpx.get(f"{second.url}/users/me", headers=headers).json()["username"] == "grace"
        assert second.admin_password == password
    assert password not in "".join(second.output)


def test_nothing_secret_is_in_the_logs(pinhole: Pinhole, rosalind: httpx.Client) -> None:
    rosalind.get("/users/me?access_token=queried")
    logged = "".join(pinhole.output) + "".join(path.read_text() for path in pinhole.data.rglob("*.log"))
    password = pinhole.admin_password
    told = [line for line in logged.splitlines() if password in line]
    assert len(told) == 1, "the administrator's password is printed once"
    assert "correct horse" not in logged
    assert "queried" not in logged
    assert rosalind.headers["Authorization"].split()[1] not in logged
    assert "@example.com" not in logged
    assert "Traceback" not in logged


def test_the_answer_carries_the_request_id_that_the_service_logged(pinhole: Pinhole, rosalind: httpx.Client) -> None:
    response = rosalind.get("/users/me", headers={"X-Request-ID": "trace-me-1"})
    assert response.headers.get_list("x-request-id") == ["trace-me-1"]


def test_metrics_of_each_service_are_where_it_listens(pinhole: Pinhole) -> None:
    for name in ("gateway", "auth", "users", "inference"):
        assert "http_server_request_duration_seconds" in httpx.get(f"{pinhole.service_url(name)}/metrics").text


def test_the_openapi_documents_name_no_status_that_is_not_a_problem(rosalind: httpx.Client) -> None:
    for name in ("users", "inference"):
        document = rosalind.get(f"/openapi/{name}.json").json()
        assert "HTTPValidationError" not in json.dumps(document)
