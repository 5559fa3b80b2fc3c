"""`OBSERVABILITY=1 make run`: traces and metrics on a page, in a real browser, with no collector."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.e2e.conftest import DATA, Pinhole, started
from tests.e2e.visit import find_violations


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pinhole]:
    with started(tmp_path_factory.mktemp("observed"), OBSERVABILITY="1") as running:
        yield running


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


def test_a_prediction_is_seen_from_the_gateway_to_its_batch(observed: Pinhole, browser: Browser) -> None:
    with observed.admin() as admin:
        picture = (DATA / "coffee.png").read_bytes()
        assert admin.post("/predict", content=picture, headers={"content-type": "image/png"}).status_code == 200
    complaints: list[str] = []
    page = browser.new_page(viewport={"width": 1360, "height": 900})
    page.set_default_timeout(30_000)
    expect.set_options(timeout=30_000)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda line: complaints.append(line.text) if line.type in {"error", "warning"} else None)
    port = observed.port + 5
    page.on("request", lambda r: complaints.append(r.url) if urlsplit(r.url).port not in {port, None} else None)
    page.goto(f"http://localhost:{port}/")

    traces = page.get_by_role("list", name="Last requests")
    traces.get_by_role("button", name="POST /predict").click()
    spans = page.get_by_role("list", name="Spans")
    for name in ("authenticate", "receive", "decode", "preprocess", "queue", "compute", "batch", "postprocess"):
        expect(spans.get_by_role("button", name=name).first).to_be_visible()
    spans.get_by_role("button", name="batch").click()
    expect(page.get_by_label("Attributes")).to_contain_text("inference.batch_size")
    expect(page.get_by_role("region", name="Metrics").get_by_role("figure")).to_have_count(6)
    expect(page.get_by_role("img", name="Pictures")).to_be_visible()
    page.get_by_role("searchbox").fill("token")
    expect(traces.get_by_role("button", name="POST /predict")).to_have_count(0)
    assert find_violations(page) == []
    assert complaints == []


def test_other_users_of_the_gateway_do_not_reach_it(observed: Pinhole) -> None:
    for path in ("/api/traces", "/api/metrics", "/v1/traces"):
        assert httpx.get(f"{observed.url}{path}").status_code == 404
