"""Visits of the web page in Chromium."""

import time
from collections.abc import Callable, Iterator
from io import BytesIO
from uuid import uuid4

import httpx
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from playwright.sync_api import Browser, Locator, expect, sync_playwright

from tests.e2e.conftest import DATA, Pinhole
from tests.e2e.visit import Scheme, Visit

CHROMIUM_FLAGS = [
    "--no-sandbox",  # the tests may run as root, in a container
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_visit(browser: Browser, pinhole: Pinhole) -> Iterator[Callable[..., Visit]]:
    """Return what starts a visit; at the end each one is checked."""
    visits: list[Visit] = []

    def start(scheme: Scheme = "light", width: int = 1280, height: int = 800) -> Visit:
        context = browser.new_context(
            base_url=pinhole.url,
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            reduced_motion="reduce",
        )
        context.set_default_timeout(15_000)
        visits.append(Visit(context.new_page(), pinhole))
        return visits[-1]

    yield start
    for visit in visits:
        visit.page.context.close()
        visit.check()


@pytest.fixture
def visit(open_visit: Callable[..., Visit]) -> Visit:
    return open_visit()


@pytest.fixture
def cat() -> bytes:
    """A picture that nobody has sent before, so that its answer is in no cache."""
    comment, file = PngInfo(), BytesIO()
    comment.add_text("Comment", uuid4().hex)
    with Image.open(DATA / "chelsea.png") as picture:
        picture.save(file, "PNG", pnginfo=comment)
    return file.getvalue()


@pytest.fixture
def username(visit: Visit) -> str:
    """Who has opened their account in `visit`."""
    username = visit.sign_in()
    visit.open_account()
    expect(part(visit, "Profile").get_by_label("mail")).to_have_value(f"{username}@example.com")
    return username


def part(visit: Visit, name: str) -> Locator:
    """Return a part of the account."""
    return visit.page.get_by_role("dialog", name="Your account").get_by_role("region", name=name)


def own_client(visit: Visit, username: str) -> httpx.Client:
    """Return another session of the one who is signed in."""
    return visit.pinhole.client(username, f"correct horse {username}")


def ended(client: httpx.Client) -> bool:
    """Return whether a client's session ends in time."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if client.get("/users/me").status_code == 401:
            return True
        time.sleep(0.05)
    return False
