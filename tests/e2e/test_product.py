"""The product as a user meets it: real processes, one origin, a real picture."""

import io
import re
import uuid

import httpx
import pytest
from PIL import Image

from tests.e2e.conftest import DATA, ESPRESSO, Pinhole, assert_problem

CAT_CLASSES = range(281, 286)


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
    newest = admin.get("/users/", params={"sort": "-created"}).json()
    assert account["username"] in [user["username"] for user in newest]
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


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF"])
def test_each_format_is_taken(rosalind: httpx.Client, format: str) -> None:
    encoded = io.BytesIO()
    with Image.open(DATA / "coffee.png") as picture:
        picture.convert("RGB").save(encoded, format)
    answer = rosalind.post("/predict", files={"file": ("coffee", encoded.getvalue(), f"image/{format.lower()}")})
    assert answer.status_code == 200, answer.text
    assert answer.json()["predicted_class"] == ESPRESSO
