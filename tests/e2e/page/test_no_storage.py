"""The page in a real browser that forbids it to keep anything, as one does whose user blocks cookies."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.e2e.conftest import Pinhole
from tests.e2e.page.conftest import CHROMIUM_FLAGS
from tests.e2e.visit import Visit

COOKIES_BLOCKED = {"profile": {"default_content_setting_values": {"cookies": 2}}}

# With its cookies blocked Firefox forbids this as well; Chromium does not.
FORBID_CHANNELS = """window.BroadcastChannel = class {
    constructor() { throw new DOMException("Storage access denied", "SecurityError"); }
}"""


@pytest.fixture(params=["Chromium", "Firefox"])
def visit(
    browser: Browser, chromium: str, pinhole: Pinhole, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Visit]:
    preferences = tmp_path / "Default" / "Preferences"
    preferences.parent.mkdir()
    preferences.write_text(json.dumps(COOKIES_BLOCKED))
    context = browser.browser_type.launch_persistent_context(
        tmp_path, executable_path=chromium, args=CHROMIUM_FLAGS, base_url=pinhole.url, reduced_motion="reduce"
    )
    if request.param == "Firefox":
        context.add_init_script(FORBID_CHANNELS)
    visit = Visit(context.pages[0], pinhole)
    yield visit
    context.close()
    visit.check()


def test_without_storage_the_page_works_until_it_is_left(visit: Visit, cat: bytes) -> None:
    username = visit.sign_in()
    assert visit.page.evaluate(
        "() => { try { return sessionStorage.length } catch (error) { return error.name } }"
    ) == ("SecurityError")
    visit.answer_of(lambda: visit.choose("chelsea.png", cat))
    visit.open_account()
    visit.page.keyboard.press("Escape")
    with visit.page.expect_response("**/oauth2/revoke"):
        visit.page.get_by_role("button", name="Sign out").click()
    visit.fill_in("Sign in", Username=username, Password=f"correct horse {username}")
    expect(visit.page.get_by_role("button", name=f"Account of {username}")).to_be_visible()
    visit.page.reload()
    expect(visit.page.get_by_role("heading", name="Sign in")).to_be_visible()
