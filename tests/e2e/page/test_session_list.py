"""Where somebody is signed in, as the account on the web page shows and ends it, in a real browser."""

import re

import httpx
import pytest
from playwright.sync_api import Locator, expect

from tests.e2e.page.conftest import ended, own_client, part
from tests.e2e.visit import Visit, refuse

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"


@pytest.fixture
def sessions(visit: Visit, username: str) -> Locator:
    """The sessions of somebody who is signed in here, in Firefox, and by two clients of Python."""
    password = f"correct horse {username}"
    form = {"grant_type": "password", "username": username, "password": password}
    httpx.post(f"{visit.pinhole.url}/token", data=form, headers={"User-Agent": FIREFOX}).raise_for_status()
    own_client(visit, username).close()
    visit.open_account_again()
    items = part(visit, "Where you are signed in").get_by_role("listitem")
    expect(items).to_have_count(4)
    return items


def test_sessions_are_named_in_words(visit: Visit, sessions: Locator) -> None:
    devices = [text.split("\n")[0] for text in sessions.all_inner_texts()]
    assert devices[0] == "Chrome on Linux"
    assert sorted(devices[1:]) == ["Firefox on Linux", "python-httpx", "python-httpx"]
    for item in sessions.all():
        expect(item).to_contain_text("Last used just now, signed in just now")
    expect(sessions.first).to_contain_text("This one")
    expect(sessions.first.get_by_role("button")).to_have_count(0)


def test_one_session_is_ended_and_the_others_go_on(visit: Visit, username: str, sessions: Locator) -> None:
    where = part(visit, "Where you are signed in")
    where.get_by_role("button", name="End Firefox on Linux").click()
    expect(where.get_by_role("status")).to_have_text("Signed out there: Firefox on Linux.")
    expect(where.get_by_role("heading")).to_be_focused()  # the button that was pressed has gone
    expect(sessions).to_have_count(3)
    visit.open_account_again()
    expect(sessions).to_have_count(3)
    expect(where.get_by_text("Firefox on Linux")).to_have_count(0)


def test_a_session_that_has_ended_by_itself_leaves_the_list(visit: Visit, username: str, sessions: Locator) -> None:
    with own_client(visit, username) as other:
        ids = {each["device"]: each["id"] for each in other.get("/sessions").json()["sessions"]}
        other.delete(f"/sessions/{ids[FIREFOX]}").raise_for_status()
    part(visit, "Where you are signed in").get_by_role("button", name="End Firefox on Linux").click()
    expect(sessions).to_have_count(3)
    visit.expected_refusals = [(f"/sessions/{ids[FIREFOX]}", 404)]


def test_who_signs_out_everywhere_is_asked_once_more(visit: Visit, username: str) -> None:
    where = part(visit, "Where you are signed in")
    everywhere = where.get_by_role("button", name="Sign out everywhere", exact=True)
    with own_client(visit, username) as other:
        everywhere.click()
        expect(where.get_by_text("This signs you out here, too, and on every other device.")).to_be_focused()
        where.get_by_role("button", name="Stay signed in").click()
        expect(everywhere).to_be_focused()
        assert other.get("/users/me").status_code == 200
        everywhere.click()
        where.get_by_role("button", name="Yes, sign out everywhere").click()
        expect(visit.page.get_by_role("dialog")).to_be_hidden()
        expect(visit.alert).to_contain_text("You are signed out everywhere")
        expect(visit.page.get_by_role("heading", name="Sign in")).to_be_focused()
        assert visit.page.evaluate("sessionStorage.length") == 0
        assert ended(other)
    assert visit.pinhole.token(username, f"correct horse {username}")


def test_sessions_that_could_not_be_read_can_be_asked_for_again(visit: Visit) -> None:
    visit.sign_in()
    visit.page.route("**/sessions", refuse(503, headers={"Retry-After": "3"}), times=1)
    visit.open_account()
    where = part(visit, "Where you are signed in")
    expect(where.get_by_role("alert")).to_contain_text("Try again in 3 seconds.")
    where.get_by_role("button", name="Try again").click()
    expect(where.get_by_role("listitem")).to_have_count(2)
    expect(where.get_by_role("alert")).to_be_empty()
    visit.expected_refusals = [("/sessions", 503)]


def test_a_session_that_cannot_be_ended_now_stays_in_the_list(visit: Visit, sessions: Locator) -> None:
    visit.page.route("**/sessions/*", lambda route: route.abort(), times=1)
    where = part(visit, "Where you are signed in")
    where.get_by_role("button", name="End Firefox on Linux").click()
    expect(where.get_by_role("alert")).to_contain_text("Pinhole cannot be reached")
    expect(sessions).to_have_count(4)


@pytest.mark.parametrize(
    ("user_agent", "name"),
    [
        (FIREFOX, "Firefox on Linux"),
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 "
            "Safari/537.36 Edg/130.0.0.0",
            "Edge on Windows",
        ),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
            "Version/18.0 Mobile/15E148 Safari/604.1",
            "Safari on iPhone",
        ),
        (
            "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Mobile "
            "Safari/537.36",
            "Chrome on Android",
        ),
        (
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 "
            "Safari/605.1.15",
            "Safari on macOS",
        ),
        ("curl/8.5.0", "curl"),
        ("Go-http-client/1.1", "Go-http-client"),
        ("<b>", "An unknown device"),
        (None, "An unknown device"),
    ],
)
def test_a_device_has_the_name_that_its_owner_gives_it(visit: Visit, user_agent: str | None, name: str) -> None:
    visit.page.goto("/docs")
    describe = "async (it) => (await import('/static/devices.js')).describeDevice(it)"
    assert visit.page.evaluate(describe, user_agent) == name


def test_times_are_told_as_people_tell_them(visit: Visit) -> None:
    visit.page.goto("/docs")
    told = visit.page.evaluate("""async () => {
        const { timeElement } = await import("/static/times.js");
        const seconds = [-5, 59, 60, 7199, 3 * 3600, 30 * 3600, 12 * 86400, 400 * 86400];
        return seconds.map((s) => timeElement(new Date(Date.now() - s * 1000).toISOString()).textContent);
    }""")
    assert told[:-1] == [
        "just now",
        "just now",
        "1 minute ago",
        "1 hour ago",
        "3 hours ago",
        "yesterday",
        "12 days ago",
    ]
    assert re.fullmatch(r"\d+ \w+ 20\d\d at \d\d:\d\d", told[-1])
