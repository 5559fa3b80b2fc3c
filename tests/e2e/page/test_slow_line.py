"""What the page says of a picture on a slow line, in a real browser, and how one gives it up."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.e2e.visit import Visit, find_violations, refuse

KIB = 1024
SHOWN_AFTER_MS = 1000


@pytest.fixture
def slow_down(visit: Visit) -> Callable[[int], None]:
    """Return what makes the page send so many bytes a second; -1 for as many as it can."""
    devtools = visit.page.context.new_cdp_session(visit.page)

    def slow_down(bytes_per_second: int) -> None:
        line = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": bytes_per_second}
        devtools.send("Network.emulateNetworkConditions", line)

    return slow_down


def test_a_picture_that_takes_its_time_says_how_much_of_it_was_sent(
    visit: Visit, cat: bytes, slow_down: Callable[[int], None]
) -> None:
    visit.sign_in()
    slow_down(len(cat) // 5)
    visit.choose("chelsea.png", cat)
    bar = visit.page.get_by_role("progressbar", name="Sending the picture")
    words = visit.page.get_by_text(re.compile(r"^\d+% sent$"))
    expect(bar).to_be_visible()
    parts: set[str] = set()
    while words.count() and len(parts) < 3:
        parts.add(words.inner_text())
    assert len(parts) == 3
    expect(visit.page.get_by_role("status")).to_have_text("Sending chelsea.png takes a while. It can be cancelled.")
    assert find_violations(visit.page) == []
    expect(visit.names).to_have_count(5)
    expect(bar).to_be_hidden()
    expect(visit.page.get_by_role("button", name="Cancel")).to_be_hidden()


def test_what_is_answered_at_once_shows_no_progress(visit: Visit, cat: bytes) -> None:
    visit.sign_in()
    visit.page.clock.install()
    visit.answer_of(lambda: visit.choose("chelsea.png", cat))
    visit.page.clock.run_for(2 * SHOWN_AFTER_MS)
    expect(visit.page.get_by_role("button", name="Cancel")).to_be_hidden()


def test_a_picture_on_its_way_is_cancelled_and_can_be_sent_again(
    visit: Visit, cat: bytes, slow_down: Callable[[int], None]
) -> None:
    visit.sign_in()
    slow_down(10 * KIB)
    with visit.page.expect_event("requestfailed") as failed:
        visit.choose("chelsea.png", cat)
        cancel = visit.page.get_by_role("button", name="Cancel")
        cancel.focus()
        visit.page.keyboard.press("Enter")
    assert "/predict" in failed.value.url
    expect(visit.alert).to_contain_text("Cancelled")
    expect(visit.page.get_by_role("heading", name="No answer")).to_be_focused()  # the button has gone
    expect(cancel).to_be_hidden()
    expect(visit.page.get_by_role("img", name="Preview of chelsea.png")).to_be_visible()
    slow_down(-1)
    visit.answer_of(visit.page.get_by_role("button", name="Send it again").click)


def test_an_answer_that_is_waited_for_can_be_given_up(visit: Visit, cat: bytes) -> None:
    visit.sign_in()
    visit.page.route("**/predict?*", lambda _route: None, times=1)  # never answered
    visit.choose("chelsea.png", cat)
    visit.page.get_by_role("button", name="Cancel").click()
    expect(visit.alert).to_contain_text("There is no answer for this picture.")


def test_the_focus_is_not_lost_when_the_answer_comes(
    visit: Visit, cat: bytes, slow_down: Callable[[int], None]
) -> None:
    visit.sign_in()
    slow_down(len(cat) // 3)
    visit.choose("chelsea.png", cat)
    visit.page.get_by_role("button", name="Cancel").focus()
    expect(visit.names).to_have_count(5)
    expect(visit.page.get_by_role("heading", name="Most likely")).to_be_focused()


def test_a_line_that_breaks_says_so(visit: Visit, cat: bytes) -> None:
    visit.sign_in()
    visit.page.route("**/predict?*", lambda route: route.abort(), times=1)
    visit.choose("chelsea.png", cat)
    expect(visit.alert).to_contain_text("Pinhole cannot be reached")
    visit.answer_of(visit.page.get_by_role("button", name="Try again").click)


def test_on_a_narrow_screen_the_button_that_cancels_comes_into_view(
    open_visit: Callable[..., Visit], cat: bytes
) -> None:
    visit = open_visit(width=320, height=640)
    visit.sign_in()
    visit.page.route("**/predict?*", lambda _route: None)  # never answered
    visit.choose("chelsea.png", cat)
    expect(visit.page.get_by_role("button", name="Cancel")).to_be_in_viewport()
    assert visit.page.evaluate("document.documentElement.scrollWidth") == 320


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_a_picture_that_comes_while_the_account_is_open_is_taken_and_it_is_said(
    visit: Visit, cat: bytes, kind: str, username: str
) -> None:
    account = visit.page.get_by_role("dialog")
    account.evaluate("account => account.scrollTo(0, account.scrollHeight)")
    visit.transfer("drop" if kind == "drop" else "paste", "chelsea.png", content=cat)
    news = account.get_by_text("chelsea.png was taken. Close this to see it.")
    expect(news).to_be_in_viewport()
    visit.page.keyboard.press("Escape")
    expect(visit.names).to_have_count(5)
    visit.open_account()
    expect(news).to_have_count(0)


def test_numbers_of_pixels_can_be_read(visit: Visit, cat: bytes) -> None:
    visit.sign_in()
    detail = "the picture has more than 64000000 pixels"
    visit.page.route("**/predict?*", refuse(422, detail=detail), times=1)
    visit.choose("chelsea.png", cat)
    expect(visit.alert).to_contain_text("The picture has more than 64,000,000 pixels.")
    visit.expected_refusals = [("/predict", 422)]
