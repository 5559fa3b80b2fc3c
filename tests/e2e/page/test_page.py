"""The web page in a real browser, as a person meets it: by mouse, by keyboard, and when things fail."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import DATA
from tests.e2e.visit import Scheme, Visit, find_violations, refuse

CAT_CLASSES = range(281, 286)
MIB = 2**20
STAGES = ["receive", "decode", "preprocess", "queue", "compute", "postprocess", "network"]


# From sign-up to an answer


def test_a_new_user_drops_a_picture_and_reads_what_it_shows(visit: Visit, cat: bytes, tmp_path: Path) -> None:
    username = f"ada-{uuid4().hex[:12]}"
    visit.page.goto("/")
    visit.page.get_by_role("link", name="Create an account").click()
    visit.fill_in(
        "Create an account",
        Username=username,
        mail=f"{username}@example.com",
        Full_name="<b>Ada</b> & co",
        Password="correct horse battery",
    )
    expect(visit.page.get_by_text("<b>Ada</b> & co", exact=True)).to_be_visible()

    answer = visit.answer_of(lambda: visit.transfer("drop", "chelsea.png", content=cat))
    assert answer["predicted_class"] in CAT_CLASSES
    expect(visit.names).to_have_count(5)
    for item, prediction in zip(visit.names.all(), answer["predictions"], strict=True):
        expect(item).to_contain_text(prediction["label"])
        if prediction["score"] >= 0.001:
            expect(item).to_contain_text(f"{prediction['score'] * 100:.1f}%")
    timings = visit.page.get_by_role("region", name="Time taken")
    assert timings.get_by_role("term").all_inner_texts() == STAGES
    assert all(re.search(r"\d ms$", text) for text in timings.get_by_role("definition").all_inner_texts())
    expect(timings).to_contain_text(f"{answer['model']['name']}, version {answer['model']['version']}")
    expect(visit.page.get_by_role("status")).to_contain_text(f"Most likely {answer['label']}")
    expect(visit.page.get_by_role("img", name="Preview of chelsea.png")).to_be_visible()
    visit.page.screenshot(path=tmp_path / "answer.png", full_page=True)

    with visit.page.expect_response("**/oauth2/revoke") as revoked:
        visit.page.get_by_role("button", name="Sign out").click()
    assert revoked.value.status == 200
    expect(visit.page.get_by_role("heading", name="Sign in")).to_be_focused()
    expect(visit.names).to_have_count(0)
    assert visit.page.evaluate("sessionStorage.length") == 0


@pytest.mark.parametrize(("sample", "classes"), [("Try the cat", CAT_CLASSES), ("Try the coffee", [967])])
def test_a_sample_takes_one_click(visit: Visit, sample: str, classes: range | list[int]) -> None:
    visit.sign_in()
    answer = visit.answer_of(visit.page.get_by_role("button", name=sample).click)
    assert answer["predicted_class"] in classes


def test_a_picture_can_be_pasted(visit: Visit, cat: bytes) -> None:
    visit.sign_in()
    answer = visit.answer_of(lambda: visit.transfer("paste", "pasted.png", content=cat))
    assert answer["predicted_class"] in CAT_CLASSES


def test_with_several_models_there_is_a_choice(visit: Visit, cat: bytes) -> None:
    models = json.dumps([{"name": "efficientnet-lite0", "version": "1"}, {"name": "other", "version": "1"}])
    visit.page.route("**/models", lambda route: route.fulfill(content_type="application/json", body=models))
    visit.sign_in()
    requests = visit.requests_for("/predict")
    visit.page.route("**/predict?*", refuse(404, detail="there is no model other"))
    visit.page.get_by_label("Model").select_option("other")
    visit.choose("chelsea.png", cat)
    expect(visit.alert).to_contain_text("There is no model other.")
    assert "model=other" in requests[0].url
    visit.expected_refusals = [("/predict", 404)]


def test_the_page_shows_what_speaks_for_the_likeliest_name(visit: Visit, cat: bytes, tmp_path: Path) -> None:
    visit.sign_in()
    requests = visit.requests_for("/explain")
    answer = visit.answer_of(lambda: visit.choose("chelsea.png", cat))
    preview = visit.page.get_by_role("img", name="Preview of chelsea.png")
    plain = preview.get_attribute("src")
    toggle = visit.page.get_by_role("button", name=f"Show what speaks for {answer['label']}")
    expect(toggle).to_have_attribute("aria-pressed", "false")
    with visit.page.expect_response("**/explain?*"):
        toggle.click()
    expect(toggle).to_have_attribute("aria-pressed", "true")
    expect(visit.page.get_by_role("status")).to_contain_text("the warmer, the more")
    assert preview.get_attribute("src") != plain
    expect(preview).to_have_js_property("naturalWidth", 451)
    assert f"class={answer['predicted_class']}" in requests[0].url
    visit.page.screenshot(path=tmp_path / "heat.png", full_page=True)
    assert find_violations(visit.page) == []
    toggle.click()
    expect(toggle).to_have_attribute("aria-pressed", "false")
    assert preview.get_attribute("src") == plain


def test_without_time_for_a_heat_map_the_page_says_so_and_keeps_the_answer(visit: Visit, cat: bytes) -> None:
    visit.sign_in()
    visit.answer_of(lambda: visit.choose("chelsea.png", cat))
    visit.page.route("**/explain?*", refuse(503, headers={"Retry-After": "3"}, detail="the queue is full"), times=1)
    toggle = visit.page.get_by_role("button", name="Show what speaks for")
    toggle.click()
    expect(visit.alert).to_contain_text("Predictions go first.")
    expect(visit.names).to_have_count(5)
    with visit.page.expect_response("**/explain?*"):
        visit.page.get_by_role("button", name="Try again").click()
    expect(toggle).to_have_attribute("aria-pressed", "true")
    expect(toggle).to_be_focused()  # the button that was pressed has gone
    expect(visit.alert).to_be_empty()
    visit.expected_refusals = [("/explain", 503)]


# What is refused, and how it says so


def test_a_wrong_password_is_said_in_words(visit: Visit) -> None:
    visit.page.goto("/")
    visit.fill_in("Sign in", Username="nobody", Password="not the password")
    expect(visit.alert).to_contain_text("The username or the password is wrong.")
    expect(visit.page.get_by_role("region", name="Sign in").get_by_label("Password")).to_be_focused()
    visit.expected_refusals = [("/token", 400)]


def test_a_field_that_is_not_valid_says_why_beside_it(visit: Visit) -> None:
    taken = visit.sign_up()
    visit.page.goto("/#sign-up")
    form = visit.page.get_by_role("region", name="Create an account")

    visit.fill_in("Create an account", Username="x", mail="no address", Password="short")
    expect(form.get_by_label("Username")).to_be_focused()
    expect(form.get_by_label("Username")).to_have_accessible_description(re.compile("3 to 64 letters"))
    expect(form.get_by_label("mail")).to_have_accessible_description(re.compile("Enter an e-mail address"))
    expect(form.get_by_label("Password")).to_have_accessible_description(re.compile("at least 8"))

    visit.fill_in("Create an account", Username=taken, mail=f"{taken}@b.example", Password="correct horse")
    expect(form.get_by_label("Username")).to_have_accessible_description(re.compile("taken"))
    visit.fill_in("Create an account", Username=f"{taken}-2", mail="a@b", Password="correct horse")
    expect(form.get_by_label("mail")).to_have_accessible_description(
        re.compile("^The part after the @-sign is not valid")
    )
    expect(form.get_by_label("mail")).to_be_focused()
    visit.expected_refusals = [("/users", 409), ("/users", 422)]


@pytest.mark.parametrize("status", [401, 403])
def test_where_only_administrators_create_accounts_the_page_says_so(visit: Visit, status: int) -> None:
    visit.page.route("**/users", refuse(status, detail="sign-up is closed"))
    visit.page.goto("/#sign-up")
    visit.fill_in("Create an account", Username="ada", mail="ada@example.com", Password="correct horse")
    expect(visit.alert).to_contain_text("Accounts are made by an administrator here")
    expect(visit.page.get_by_role("heading", name="Sign in")).to_be_focused()
    visit.expected_refusals = [("/users", status)]


@pytest.mark.parametrize(
    ("content", "status", "reason"),
    [
        (b"These are notes, not a picture.", 415, "Send a PNG, JPEG, WebP or GIF file."),
        ((DATA / "chelsea.png").read_bytes()[:50_000], 422, "damaged or cut short"),
        (b"", 422, "empty"),
    ],
    ids=["text", "cut short", "empty"],
)
def test_a_refused_file_says_why(visit: Visit, tmp_path: Path, content: bytes, status: int, reason: str) -> None:
    visit.sign_in()
    visit.choose("notes.png", content)
    expect(visit.alert).to_contain_text(reason)
    expect(visit.names).to_have_count(0)
    visit.page.screenshot(path=tmp_path / "refused.png", full_page=True)
    visit.expected_refusals = [("/predict", status)]


def test_a_file_that_is_too_large_is_not_sent(visit: Visit, tmp_path: Path) -> None:
    visit.sign_in()
    requests = visit.requests_for("/predict")
    (tmp_path / "large.png").write_bytes(bytes(10 * MIB + 1))
    visit.page.locator("input[type=file]").set_input_files(tmp_path / "large.png")
    expect(visit.alert).to_contain_text("Pinhole takes up to 10 MiB. It was not sent.")
    assert requests == []


def test_after_a_busy_server_the_same_picture_can_be_sent_again(visit: Visit, cat: bytes) -> None:
    visit.sign_in()
    visit.page.route("**/predict?*", refuse(503, headers={"Retry-After": "3"}, detail="the queue is full"), times=1)
    visit.choose("chelsea.png", cat)
    expect(visit.alert).to_contain_text("The queue is full. Try again in 3 seconds.")
    answer = visit.answer_of(visit.page.get_by_role("button", name="Try again").click)
    assert answer["predicted_class"] in CAT_CLASSES
    visit.expected_refusals = [("/predict", 503)]


def test_a_second_picture_takes_the_place_of_one_under_way(visit: Visit, cat: bytes) -> None:
    visit.sign_in()
    visit.page.route("**/predict?*", lambda _route: None, times=1)  # never answered
    visit.choose("first.png", cat)
    expect(visit.page.get_by_role("status")).to_have_text("Looking at first.png")
    visit.answer_of(lambda: visit.choose("second.png", cat))
    expect(visit.page.get_by_role("img", name="Preview of second.png")).to_be_visible()


def test_the_browser_is_told_to_run_nothing_but_our_files(visit: Visit) -> None:
    response = visit.page.goto("/")
    assert response is not None
    policy = response.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy


# Everyone can use it


def test_the_keyboard_is_enough(visit: Visit) -> None:
    username = visit.sign_up()
    visit.page.goto("/")
    press = visit.page.keyboard.press

    def focused() -> str:
        """Tab to the next control, and return its role and name as a screen reader has them."""
        press("Tab")
        snapshot = visit.page.locator(":focus").aria_snapshot()
        style = visit.page.evaluate("getComputedStyle(document.querySelector(':focus')).outlineStyle")
        assert style == "solid" or "Drop a picture" in snapshot, f"no focus ring on {snapshot}"
        return snapshot.removeprefix("- ")

    assert focused().startswith('link "Skip to the content"')
    press("Enter")
    assert focused().startswith('textbox "Username"')
    visit.page.keyboard.type(username)
    assert focused().startswith('textbox "Password"')
    visit.page.keyboard.type(f"correct horse {username}")
    press("Enter")
    expect(visit.page.get_by_role("heading", level=1)).to_be_focused()
    assert focused().startswith('button "Drop a picture here, or choose one"')
    assert focused().startswith('button "Try the cat"')
    press("Enter")
    expect(visit.names).to_have_count(5)
    assert visit.page.locator(":focus").inner_text() == "Try the cat"
    visit.page.get_by_role("button", name="Sign out").focus()
    press("Enter")
    expect(visit.page.get_by_role("heading", name="Sign in")).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_barrier(open_visit: Callable[..., Visit], scheme: Scheme, tmp_path: Path) -> None:
    entry = open_visit(scheme)
    entry.page.goto("/")
    assert find_violations(entry.page) == []
    entry.page.get_by_role("link", name="Create an account").click()
    entry.fill_in("Create an account", Username="x")
    assert find_violations(entry.page) == []

    camera = open_visit(scheme)
    camera.sign_in()
    camera.answer_of(camera.page.get_by_role("button", name="Try the coffee").click)
    camera.page.screenshot(path=tmp_path / f"{scheme}.png")
    assert find_violations(camera.page) == []
    camera.choose("notes.png", b"not a picture")
    expect(camera.alert).to_be_visible()
    assert find_violations(camera.page) == []
    camera.expected_refusals = [("/predict", 415)]


def test_dark_and_light_are_the_readers_choice(open_visit: Callable[..., Visit]) -> None:
    def brightness(scheme: Scheme) -> int:
        page = open_visit(scheme).page
        page.goto("/")
        colour = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        return sum(int(part) for part in re.findall(r"\d+", colour))

    assert brightness("dark") < 128 < 600 < brightness("light")


def test_on_a_narrow_screen_nothing_is_cut_off_and_the_answer_comes_into_view(
    open_visit: Callable[..., Visit], tmp_path: Path
) -> None:
    visit = open_visit(width=320, height=640)
    visit.sign_in()
    visit.answer_of(visit.page.get_by_role("button", name="Try the cat").click)
    expect(visit.names.first).to_be_in_viewport()
    assert visit.page.evaluate("document.documentElement.scrollWidth") == 320
    visit.page.screenshot(path=tmp_path / "narrow.png", full_page=True)
