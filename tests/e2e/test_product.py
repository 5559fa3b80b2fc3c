"""The product as a user meets it: real processes, one origin, a real picture."""

import io
import json
import os
import re
import signal
import socket
import struct
import time
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.e2e.conftest import DATA, Pinhole, started

CAT_CLASSES = range(281, 286)
ESPRESSO = 967
MIB = 2**20


@pytest.fixture(scope="module")
def rosalind(pinhole: Pinhole) -> Iterator[httpx.Client]:
    """A user who signed up by herself."""
    with pinhole.sign_up("rosalind") as client:
        yield client


@pytest.fixture(scope="module")
def admin(pinhole: Pinhole) -> Iterator[httpx.Client]:
    with pinhole.admin() as client:
        yield client


def assert_problem(response: httpx.Response, status: int) -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["status"] == status
    assert "Traceback" not in response.text


def bomb(width: int, height: int) -> bytes:
    """Return a valid PNG of one colour whose pixels would take gigabytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    packer = zlib.compressobj(9)
    row = bytes(1 + 3 * width)
    rows = b"".join(packer.compress(row) for _ in range(64)) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


# What a user gets


@pytest.mark.parametrize("path", ["/predict", "/predict/", "/predict?top_k=3"])
def test_a_cat_is_a_cat(rosalind: httpx.Client, path: str) -> None:
    response = rosalind.post(path, files={"file": ("chelsea.png", (DATA / "chelsea.png").read_bytes(), "image/png")})
    assert response.status_code == 200, response.text
    answer = response.json()
    assert answer["predicted_class"] in CAT_CLASSES
    assert len(answer["predictions"]) == (3 if "top_k" in path else 5)
    assert answer["predictions"][0] == {
        "class": answer["predicted_class"],
        "label": answer["label"],
        "score": answer["score"],
    }
    scores = [prediction["score"] for prediction in answer["predictions"]]
    assert scores == sorted(scores, reverse=True)
    assert 0 < sum(scores) <= 1.000001


def test_espresso_is_espresso_as_a_raw_body_too(rosalind: httpx.Client) -> None:
    picture = (DATA / "coffee.png").read_bytes()
    answer = rosalind.post("/predict", content=picture, headers={"Content-Type": "image/png"}).json()
    assert (answer["predicted_class"], answer["label"]) == (ESPRESSO, "espresso")
    assert answer["score"] > 0.9


def test_a_user_reads_and_changes_their_own_account(rosalind: httpx.Client) -> None:
    me = rosalind.get("/users/me/").json()
    assert (me["username"], me["roles"], me["disabled"]) == ("rosalind", ["user"], False)
    changed = rosalind.patch("/users/me", json={"full_name": "Rosalind Franklin"})
    assert changed.status_code == 200
    assert rosalind.get(f"/users/{me['id']}").json()["full_name"] == "Rosalind Franklin"
    assert "password" not in changed.text


def test_the_lines_of_the_article_work(admin: httpx.Client) -> None:
    """Create with a number as id and without a password, read, PUT, delete; see docs of `POST /users`."""
    body = {"id": 1, "username": "john_doe", "email": "john.doe@example.com", "full_name": "John Doe"}
    created = admin.post("/users/", json=body)
    assert created.status_code == 201
    account = created.json()
    assert uuid.UUID(account["id"]).version == 7
    assert created.headers["location"].endswith(f"/users/{account['id']}")
    assert account["username"] in [user["username"] for user in admin.get("/users/").json()]
    assert admin.get(f"/users/{account['id']}").json() == account
    renamed = admin.put(
        f"/users/{account['id']}",
        json={"id": 1, "username": "johndoe", "email": "johndoe@example.com", "full_name": "John Doe"},
    )
    assert (renamed.status_code, renamed.json()["username"]) == (200, "johndoe")
    deleted = admin.delete(f"/users/{account['id']}")
    assert (deleted.status_code, deleted.json()["username"]) == (200, "johndoe")
    gone = admin.get(f"/users/{account['id']}")
    assert_problem(gone, 404)
    assert "User not found" in gone.text


def test_an_account_without_a_password_signs_in_to_nothing(pinhole: Pinhole, admin: httpx.Client) -> None:
    admin.post("/users", json={"username": "nopassword", "email": "nopassword@example.com"})
    for password in ("", "None", "null", "password"):
        form = {"grant_type": "password", "username": "nopassword", "password": password}
        assert httpx.post(f"{pinhole.url}/token", data=form).status_code == 400


def test_a_refresh_token_gives_a_new_access_token(pinhole: Pinhole, rosalind: httpx.Client) -> None:
    form = {"grant_type": "password", "username": "rosalind", "password": "correct horse rosalind"}
    first = httpx.post(f"{pinhole.url}/token", data=form).json()
    second = httpx.post(
        f"{pinhole.url}/token", data={"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    )
    assert second.status_code == 200
    assert second.headers["cache-control"] == "no-store"
    assert second.json()["refresh_token"] != first["refresh_token"]
    headers = {"Authorization": f"Bearer {second.json()['access_token']}"}
    assert httpx.get(f"{pinhole.url}/users/me", headers=headers).status_code == 200


@pytest.mark.parametrize("path", ["/", "/docs", "/docs/", "/metrics", "/models", "/.well-known/jwks.json"])
def test_a_path_answers_at_the_one_origin(rosalind: httpx.Client, path: str) -> None:
    response = rosalind.get(path)
    assert (response.status_code, response.history) == (200, [])


@pytest.mark.parametrize("name", ["auth", "users", "inference"])
def test_the_swagger_page_lists_each_document_and_each_is_there(rosalind: httpx.Client, name: str) -> None:
    page = rosalind.get("/docs").text
    scripts = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert scripts
    assert all(link.startswith("/") and not link.startswith("//") for link in scripts)
    assert f"/openapi/{name}.json" in page + "".join(
        rosalind.get(link).text for link in scripts if link.endswith(".js")
    )
    assert rosalind.get(f"/openapi/{name}.json").json()["openapi"].startswith("3.1")


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/internal/credentials/verify", "/users/%2e%2e/internal/x"])
def test_what_is_for_the_inside_is_not_routed(pinhole: Pinhole, path: str) -> None:
    """The gateway's own probes are the gateway's; no path reaches those of a service."""
    response = httpx.get(f"{pinhole.url}{path}")
    if path in {"/livez", "/readyz"}:
        assert response.status_code == 200
    else:
        assert response.status_code in {401, 404}


# Bad input


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
    assert response.json()["error"] == ("invalid_grant" if password else "invalid_request")


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


def resident_kib(pid: int) -> int:
    """Return the most memory that a process has had in its working set, in KiB."""
    return int(re.findall(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[0])


def pid_of(port: int) -> int:
    """Return the process that listens on a loopback port, from the kernel's tables."""
    inodes = {
        line.split()[9]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if line.split()[3] == "0A" and int(line.split()[1].split(":")[1], 16) == port
    }
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            try:
                links = [str(link.readlink()) for link in (process / "fd").iterdir()]
            except OSError:
                continue
            if any(f"socket:[{inode}]" in links for inode in inodes):
                return int(process.name)
    raise LookupError(f"nothing listens on {port}")


def test_a_decompression_bomb_is_422_at_once_and_costs_nothing(pinhole: Pinhole, rosalind: httpx.Client) -> None:
    picture = bomb(50_000, 50_000)
    rosalind.post("/predict", content=picture, headers={"Content-Type": "image/png"})
    pid = pid_of(pinhole.port + 3)
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


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF"])
def test_each_format_is_taken(rosalind: httpx.Client, format: str) -> None:
    encoded = io.BytesIO()
    with Image.open(DATA / "coffee.png") as picture:
        picture.convert("RGB").save(encoded, format)
    answer = rosalind.post("/predict", files={"file": ("coffee", encoded.getvalue(), f"image/{format.lower()}")})
    assert answer.status_code == 200, answer.text
    assert answer.json()["predicted_class"] == ESPRESSO


# What is away, what is kept, and what is said


@contextmanager
def frozen(pinhole: Pinhole, name: str) -> Iterator[None]:
    """Stop a service's process where it stands: it takes connections and answers none."""
    pid = pid_of(int(pinhole.service_url(name).rsplit(":", 1)[1]))
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
