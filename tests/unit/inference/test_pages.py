"""The pages that browsers get, and how they are told to treat them."""

import re
from pathlib import Path

import httpx
import inference_service
import pytest

WEB = Path(inference_service.__file__).parent / "web"
DOCUMENTS = ("/openapi/auth.json", "/openapi/users.json", "/openapi/inference.json")


async def test_the_web_page_is_at_the_root(client: httpx.AsyncClient) -> None:
    response = await client.get("/")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.content == (WEB / "index.html").read_bytes()


@pytest.mark.parametrize("path", sorted(path.name for path in WEB.iterdir() if path.is_file()))
async def test_each_file_of_the_page_is_served_as_what_it_is(client: httpx.AsyncClient, path: str) -> None:
    response = await client.get(f"/static/{path}")
    assert response.status_code == 200
    assert response.headers["content-type"] != "application/octet-stream"


@pytest.mark.parametrize("page", ["/", "/docs", "/docs/"])
async def test_each_file_that_a_page_names_is_of_this_origin_and_there(client: httpx.AsyncClient, page: str) -> None:
    links = re.findall(r'<(?:link|script|img)[^>]+(?:src|href)="([^"]+)"', (await client.get(page)).text)
    assert links
    for link in links:
        assert link.startswith(("/static/", "/docs/assets/"))
        assert (await client.get(link)).status_code == 200


@pytest.mark.parametrize("path", ["/", "/static/app.css", "/docs", "/docs/assets/docs.js"])
async def test_a_browser_runs_nothing_of_elsewhere(client: httpx.AsyncClient, path: str) -> None:
    headers = (await client.get(path)).headers
    policy = dict(rule.split(" ", 1) for rule in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert not any("unsafe" in value or "http" in value or "*" in value for value in policy.values())
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"


@pytest.mark.parametrize("path", ["/", "/static/app.css", "/docs", "/docs/assets/swagger-ui-bundle.js"])
async def test_what_a_browser_has_is_not_sent_again(client: httpx.AsyncClient, path: str) -> None:
    first = await client.get(path)
    again = await client.get(path, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["cache-control"] == first.headers["cache-control"] == "no-cache"
    assert again.headers["content-security-policy"] == first.headers["content-security-policy"]


@pytest.mark.parametrize("path", ["/", "/docs", "/static/app.css"])
async def test_head_gives_the_headers_alone(client: httpx.AsyncClient, path: str) -> None:
    response = await client.head(path)
    assert (response.status_code, response.content) == (200, b"")
    assert int(response.headers["content-length"]) > 0


@pytest.mark.parametrize(
    "path",
    [
        "/static/none.js",
        "/static/",
        "/static/../main.py",
        "/static/%2e%2e/main.py",
        "/static/%2fetc/passwd",
        "/static/a%00b",
        f"/static/{'x' * 300}",
        "/docs/assets/..%2f..%2fcore.py",
    ],
)
async def test_what_is_not_a_file_of_a_page_is_404(client: httpx.AsyncClient, path: str) -> None:
    response = await client.get(path)
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"


async def test_the_docs_page_offers_each_document(client: httpx.AsyncClient) -> None:
    page = (await client.get("/docs")).text
    assert sorted(re.findall(r'<option value="([^"]+)"', page)) == sorted(DOCUMENTS)
    assert '<label for="document">' in page
    assert "<script>" not in page
    assert "swagger-ui-bundle.js" in page


async def test_our_own_document_describes_the_request_and_signs_in_with_a_password(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi/inference.json")).json()
    paths = [path for path in sorted(document["paths"]) if not path.startswith("/v2")]
    assert paths == ["/explain", "/models", "/models/{name}", "/models/{name}/versions/{version}", "/predict"]
    predict = document["paths"]["/predict"]["post"]
    assert {"multipart/form-data", "image/png", "application/octet-stream"} <= set(predict["requestBody"]["content"])
    refusals = ["401", "403", "404", "408", "413", "415", "422", "429", "500", "503", "504"]
    assert sorted(predict["responses"]) == ["200", *refusals]
    assert predict["security"] == [{"OAuth2PasswordBearer": ["inference:predict"]}]
    flow = document["components"]["securitySchemes"]["OAuth2PasswordBearer"]["flows"]["password"]
    assert flow["tokenUrl"] == "/token"


def test_password_fields_are_masked_and_open_to_password_managers() -> None:
    fields = re.findall(r"<input [^>]*name=\"(?:\w+_)?password\"[^>]*>", (WEB / "index.html").read_text())
    assert len(fields) == 4
    for field in fields:
        assert 'type="password"' in field
        assert re.search(r'autocomplete="(current|new)-password"', field)
        assert "onpaste" not in field
