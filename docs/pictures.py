"""Photographs what the README shows, in Chromium: `make pictures`.

The product runs as `OBSERVABILITY=1 make run` starts it, in a folder of its own.
"""

import itertools
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import get_args

from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.e2e.conftest import DATA, Pinhole, started
from tests.e2e.visit import Scheme, Visit

IMAGES = Path(__file__).with_name("images")
OBSERVING_PORT = 5
"""The port of the page of traces and metrics, after that of the gateway."""

USERNAME = "ada"
USE_SECONDS = 60


def main() -> None:
    """Write each picture in both colour schemes."""
    chromium = shutil.which("chromium") or sys.exit("Chromium is not there")
    IMAGES.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as data,
        started(Path(data), OBSERVABILITY="1", INFERENCE_CACHE_MAX_BYTES="0") as pinhole,
        sync_playwright() as playwright,
    ):
        use(pinhole)
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        scheme: Scheme
        for scheme in get_args(Scheme):
            photograph_page(browser, pinhole, scheme)
            photograph_observing(browser, pinhole, scheme)
        browser.close()


@contextmanager
def photographing(browser: Browser, name: str, scheme: Scheme, height: int) -> Iterator[Page]:
    """Yield a page, which is photographed as it is at the end."""
    context = browser.new_context(
        viewport={"width": 1280, "height": height}, color_scheme=scheme, reduced_motion="reduce"
    )
    page = context.new_page()
    yield page
    path = IMAGES / f"{name}-{scheme}.webp"
    with Image.open(BytesIO(page.screenshot(animations="disabled"))) as picture:
        picture.save(path, quality=90)
    print(f"{path.relative_to(Path.cwd())}: {path.stat().st_size // 1024} KiB")
    context.close()


def use(pinhole: Pinhole) -> None:
    """Send pictures for a while, so that there is something to see."""
    pictures = [(DATA / name).read_bytes() for name in ("chelsea.png", "coffee.png")]
    with pinhole.sign_up(USERNAME) as client:
        ends_at = time.monotonic() + USE_SECONDS
        for pause_seconds in itertools.cycle((0.1, 0.4, 0.2, 0.8, 0.3)):
            if (left := ends_at - time.monotonic()) < 0:
                break
            print(f"\r{left:3.0f} s of requests to come", end="", file=sys.stderr)
            for picture in pictures:
                client.post("/predict", content=picture, headers={"Content-Type": "image/png"}).raise_for_status()
            time.sleep(pause_seconds)
    print(file=sys.stderr)


def photograph_page(browser: Browser, pinhole: Pinhole, scheme: Scheme) -> None:
    """Classify the cat, and show what speaks for it."""
    with photographing(browser, "page", scheme, height=800) as page:
        page.goto(pinhole.url)
        visit = Visit(page, pinhole)
        visit.fill_in("Sign in", Username=USERNAME, Password=f"correct horse {USERNAME}")
        expect(page.get_by_role("button", name="Sign out")).to_be_visible()
        visit.choose("chelsea.png", (DATA / "chelsea.png").read_bytes())
        expect(visit.names).to_have_count(5)
        heat = page.get_by_role("button", name="Show what speaks for")
        heat.click()
        expect(heat).to_have_attribute("aria-pressed", "true", timeout=60_000)
        page.mouse.move(0, 0)


def photograph_observing(browser: Browser, pinhole: Pinhole, scheme: Scheme) -> None:
    """Show the way of a prediction through the services."""
    with photographing(browser, "observing", scheme, height=720) as page:
        page.goto(f"http://localhost:{pinhole.port + OBSERVING_PORT}/")
        page.get_by_role("button", name="POST /predict").first.click()
        expect(page.get_by_role("list", name="Spans").get_by_role("button", name="batch").first).to_be_visible()
        expect(page.get_by_role("region", name="Metrics").get_by_role("figure")).to_have_count(6)


if __name__ == "__main__":
    main()
