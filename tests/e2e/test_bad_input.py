"""What the product answers to requests that are wrong, too large or hostile."""

import re
import socket
import struct
import time
import uuid
import zlib
from pathlib import Path

import httpx
import pytest

from tests.e2e.conftest import DATA, Pinhole, assert_problem

MIB = 2**20


def bomb(width: int, height: int) -> bytes:
    """Return a valid PNG of one colour whose pixels would take gigabytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    packer = zlib.compressobj(9)
    row = bytes(1 + 3 * width)
    rows = b"".join(packer.compress(row) for _ in range(64)) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def resident_kib(pid: int) -> int:
    """Return the most memory that a process has had in its working set, in KiB."""
    return int(re.findall(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[0])


def test_no_token_is_401(pinhole: Pinhole) -> None:
    for method, path in [("POST", "/predict"), ("GET", "/users"), ("GET", "/users/me"), ("GET", "/models")]:
        response = httpx.request(method, f"{pinhole.url}{path}")
        assert_problem(response, 401)
        assert response.headers["www-authenticate"].startswith("Bearer")


def test_a_tampered_token_is_401(pinhole: Pinhole, rosalind: httpx.Client) -> None:
    token = rosalind.headers["Authorization"]
    tampered = token[:-10] + ("A" if token[-10] != "A" else "B") + token[-9:]
    response = httpx.get(f"{pinhole.url}/users/me", headers={"Authorization": tampered})
    assert_problem(response, 401)
    assert 'error="invalid_token"' in response.headers["www-authenticate"]


def test_a_wrong_scope_is_403(pinhole: Pinhole, rosalind: httpx.Client) -> None:
    assert_problem(rosalind.get("/users"), 403)
    form = {"grant_type": "password", "username": "rosalind", "password": "correct horse rosalind", "scope": "profile"}
    token = httpx.post(f"{pinhole.url}/token", data=form).json()
    assert token["scope"] == "profile"
    response = httpx.post(f"{pinhole.url}/predict", headers={"Authorization": f"Bearer {token['access_token']}"})
    assert_problem(response, 403)
    assert 'scope="inference:predict"' in response.headers["www-authenticate"]


def test_the_account_of_another_is_404_like_one_that_is_not_there(rosalind: httpx.Client, admin: httpx.Client) -> None:
    other = admin.get("/users/me").json()["id"]
    for path in (f"/users/{other}", f"/users/{uuid.uuid4()}", "/users/1"):
        response = rosalind.get(path)
        assert_problem(response, 404)
        assert "User not found" in response.text
    assert_problem(rosalind.delete(f"/users/{other}"), 404)


@pytest.mark.parametrize(
    "body", [{"username": "ROSALIND", "email": "new@example.com"}, {"username": "new", "email": "Rosalind@Example.com"}]
)
def test_a_duplicate_is_409(admin: httpx.Client, rosalind: httpx.Client, body: dict[str, str]) -> None:
    assert_problem(admin.post("/users", json=body), 409)


def test_an_invalid_field_is_422_and_named(pinhole: Pinhole) -> None:
    response = httpx.post(
        f"{pinhole.url}/users", json={"username": "bob", "email": "not an address", "password": "long enough 1"}
    )
    assert_problem(response, 422)
    assert [error["field"] for error in response.json()["errors"]] == ["body.email"]


@pytest.mark.parametrize("password", ["wrong", "", "x" * 300])
@pytest.mark.parametrize("username", ["rosalind", "nobody"])
def test_a_refused_sign_in_is_the_same_whatever_the_cause(
    pinhole: Pinhole, rosalind: httpx.Client, username: str, password: str
) -> None:
    form = {"grant_type": "password", "username": username, "password": password}
    response = httpx.post(f"{pinhole.url}/token", data=form)
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/json"
    assert response.json()["error"] == "invalid_grant"


def test_over_ten_mebibytes_is_413_without_reading_the_rest(pinhole: Pinhole, rosalind: httpx.Client) -> None:
    for port in (pinhole.port, int(pinhole.service_url("inference").rsplit(":", 1)[1])):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            head = (
                "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
                f"Authorization: {rosalind.headers['Authorization']}\r\nContent-Length: {2**40}\r\n\r\n"
            )
            connection.sendall(head.encode() + b"\x89PNG")
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"application/problem+json" in answer


@pytest.mark.parametrize("extra", [1, MIB])
def test_a_picture_just_over_the_limit_is_413(rosalind: httpx.Client, extra: int) -> None:
    response = rosalind.post("/predict", content=bytes(10 * MIB + extra), headers={"Content-Type": "image/png"})
    assert_problem(response, 413)


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"this is no picture", "image/png", 415),
        (b"this is no picture", "text/plain", 415),
        (b"", "image/png", 422),
        ((DATA / "chelsea.png").read_bytes()[:20_000], "image/png", 422),
    ],
    ids=["text as PNG", "text", "empty", "truncated"],
)
def test_what_cannot_be_classified_says_why(
    rosalind: httpx.Client, body: bytes, content_type: str, status: int
) -> None:
    raw = rosalind.post("/predict", content=body, headers={"Content-Type": content_type})
    assert_problem(raw, status)
    upload = rosalind.post("/predict", files={"file": ("picture.png", body, content_type)})
    assert_problem(upload, status)


def test_a_decompression_bomb_is_422_at_once_and_costs_nothing(pinhole: Pinhole, rosalind: httpx.Client) -> None:
    picture = bomb(50_000, 50_000)
    rosalind.post("/predict", content=picture, headers={"Content-Type": "image/png"})
    pid = pinhole.process_id("inference")
    before = resident_kib(pid)
    times = []
    for _ in range(5):
        started = time.perf_counter()
        response = rosalind.post("/predict", content=picture, headers={"Content-Type": "image/png"})
        times.append(time.perf_counter() - started)
        assert_problem(response, 422)
    assert min(times) < 0.1
    assert resident_kib(pid) - before < 50 * 1024


def test_an_unknown_model_is_404(rosalind: httpx.Client) -> None:
    picture = (DATA / "coffee.png").read_bytes()
    assert_problem(rosalind.post("/predict?model=other", content=picture, headers={"Content-Type": "image/png"}), 404)
    assert_problem(rosalind.get("/models/other"), 404)
