"""The account on the web page, in a real browser: profile, password, data, and the end of it."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Route, expect

from tests.e2e.page.conftest import ended, own_client, part
from tests.e2e.visit import Scheme, Visit, find_violations, refuse

# The dialog


def test_the_account_opens_from_ones_name_and_gives_the_focus_back(visit: Visit) -> None:
    username = visit.sign_in()
    name = visit.page.get_by_role("button", name=f"Account of {username}")
    dialog = visit.page.get_by_role("dialog", name="Your account")
    close = dialog.get_by_role("button", name="Close")
    for key in ("Escape", "Enter"):
        name.focus()
        visit.page.keyboard.press("Enter")
        expect(dialog.get_by_role("heading", name="Your account")).to_be_focused()
        if key == "Enter":
            close.focus()
        visit.page.keyboard.press(key)
        expect(dialog).to_be_hidden()
        expect(name).to_be_focused()


def test_the_keyboard_goes_through_the_account_in_its_order(visit: Visit, username: str) -> None:
    with own_client(visit, username):
        visit.open_account_again()
        expect(part(visit, "Where you are signed in").get_by_role("button", name="End")).not_to_have_count(0)
        names = []
        for _ in range(8):
            visit.page.keyboard.press("Tab")
            names.append(visit.page.locator(":focus").aria_snapshot().removeprefix("- "))
            outline = visit.page.evaluate("getComputedStyle(document.querySelector(':focus')).outlineStyle")
            assert outline == "solid", f"no focus ring on {names[-1]}"
    starts = ['button "Close"', 'textbox "E-mail"', 'textbox "Full name', 'button "Save"', 'textbox "Current password"']
    starts += ['textbox "New password"', 'button "Change password"', 'button "End python-httpx"']
    assert [name[: len(start)] for name, start in zip(names, starts, strict=True)] == starts


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 320)])
def test_axe_finds_no_barrier_in_the_account(open_visit: Callable[..., Visit], scheme: Scheme, width: int) -> None:
    visit = open_visit(scheme, width=width, height=640)
    visit.sign_in()
    visit.open_account()
    expect(part(visit, "Where you are signed in").get_by_role("listitem").first).to_be_visible()
    visit.fill_in("Password", Current_password="x", New_password="short")
    visit.fill_in("Delete account")
    visit.page.get_by_role("button", name="Sign out everywhere").click()
    expect(visit.page.get_by_role("button", name="Yes, sign out everywhere")).to_be_visible()
    assert find_violations(visit.page) == []
    dialog = visit.page.get_by_role("dialog")
    assert dialog.evaluate("dialog => dialog.scrollWidth - dialog.clientWidth") == 0


def test_what_was_typed_is_forgotten_when_the_account_is_closed(visit: Visit, username: str) -> None:
    fields = part(visit, "Password").get_by_role("textbox")
    fields.first.fill("correct horse")
    visit.open_account_again()
    expect(fields.first).to_have_value("")


def test_a_session_that_ends_closes_the_account(visit: Visit, username: str) -> None:
    with own_client(visit, username) as other:
        other.delete("/sessions").raise_for_status()
    part(visit, "Where you are signed in").get_by_role("button", name="Sign out everywhere").click()
    visit.page.get_by_role("button", name="Yes, sign out everywhere").click()
    expect(visit.page.get_by_role("dialog")).to_be_hidden()
    expect(visit.alert).to_contain_text("Your session has ended")
    expect(visit.page.get_by_role("heading", name="Sign in")).to_be_focused()
    visit.expected_refusals = [("/sessions", 401), ("/token", 400)]


# Profile


def test_a_user_changes_their_address_and_name(visit: Visit, username: str) -> None:
    profile = part(visit, "Profile")
    expect(profile.get_by_text(f"Your username is {username}.")).to_be_visible()
    expect(profile.get_by_label("mail")).to_have_value(f"{username}@example.com")
    visit.fill_in("Profile", mail=f"new-{username}@example.com", Full_name="Ada <Lovelace>")
    expect(profile.get_by_role("status")).to_have_text("Saved.")
    visit.page.keyboard.press("Escape")
    expect(visit.page.get_by_role("button", name="Account of Ada <Lovelace>")).to_be_visible()
    visit.open_account()
    expect(profile.get_by_label("mail")).to_have_value(f"new-{username}@example.com")
    visit.fill_in("Profile", Full_name="")
    expect(profile.get_by_role("status")).to_have_text("Saved.")
    with own_client(visit, username) as other:
        assert other.get("/users/me").json()["full_name"] is None
    visit.page.keyboard.press("Escape")
    expect(visit.page.get_by_role("button", name=f"Account of {username}")).to_be_visible()


def test_an_address_that_is_taken_or_none_is_said_beside_its_field(visit: Visit, username: str) -> None:
    taken = visit.sign_up()
    email = part(visit, "Profile").get_by_label("mail")
    expect(email).not_to_have_value("")
    visit.fill_in("Profile", mail=f"{taken}@example.com")
    expect(email).to_have_accessible_description("There is another account with this e-mail address.")
    visit.fill_in("Profile", mail="no address")
    expect(email).to_have_accessible_description(re.compile("Enter an e-mail address"))
    visit.expected_refusals = [("/users/me", 409)]


def test_who_changed_the_account_elsewhere_is_told_before_it_is_overwritten(visit: Visit, username: str) -> None:
    profile = part(visit, "Profile")
    expect(profile.get_by_label("mail")).not_to_have_value("")
    with own_client(visit, username) as other:
        other.patch("/users/me", json={"full_name": "From elsewhere"}).raise_for_status()
    visit.fill_in("Profile", Full_name="From here")
    expect(profile.get_by_role("alert")).to_contain_text("the full name From elsewhere. Save again")
    expect(profile.get_by_label("Full name")).to_have_value("From here")
    visit.fill_in("Profile")
    expect(profile.get_by_role("status")).to_have_text("Saved.")
    expect(profile.get_by_role("alert")).to_be_empty()
    visit.expected_refusals = [("/users/me", 412)]


def test_a_proxy_that_compresses_keeps_nobody_from_a_change(visit: Visit) -> None:
    def weaken(route: Route) -> None:
        response = route.fetch()
        route.fulfill(response=response, headers={**response.headers, "etag": f"W/{response.headers['etag']}"})

    username = visit.sign_in()
    visit.page.route("**/users/me", weaken)
    visit.open_account()
    expect(part(visit, "Profile").get_by_label("mail")).to_have_value(f"{username}@example.com")
    visit.fill_in("Profile", Full_name="Ada")
    expect(part(visit, "Profile").get_by_role("status")).to_have_text("Saved.")


def test_what_was_typed_outlives_a_server_that_is_away(visit: Visit, username: str) -> None:
    profile = part(visit, "Profile")
    expect(profile.get_by_label("mail")).not_to_have_value("")
    visit.page.route("**/users/me", lambda route: route.abort(), times=1)
    visit.fill_in("Profile", Full_name="Ada")
    expect(profile.get_by_role("alert")).to_contain_text("Pinhole cannot be reached")
    visit.page.route("**/users/me", refuse(503, headers={"Retry-After": "3"}), times=1)
    visit.fill_in("Profile")
    expect(profile.get_by_role("alert")).to_contain_text("Nothing was lost. Try again in 3 seconds.")
    expect(profile.get_by_label("Full name")).to_have_value("Ada")
    visit.fill_in("Profile")
    expect(profile.get_by_role("status")).to_have_text("Saved.")
    visit.expected_refusals = [("/users/me", 503)]


def test_a_profile_that_could_not_be_read_can_be_asked_for_again(visit: Visit) -> None:
    username = visit.sign_in()
    visit.page.route("**/users/me", refuse(500), times=1)
    visit.open_account()
    profile = part(visit, "Profile")
    expect(profile.get_by_role("alert")).to_contain_text("Something broke")
    profile.get_by_label("mail").focus()
    expect(profile.get_by_label("mail")).not_to_be_focused()  # nothing can be typed that would be overwritten
    profile.get_by_role("button", name="Try again").click()
    expect(profile.get_by_label("mail")).to_have_value(f"{username}@example.com")
    expect(profile.get_by_role("alert")).to_be_empty()
    visit.expected_refusals = [("/users/me", 500)]


# Password


def test_a_new_password_ends_the_other_sessions_and_keeps_this_one(visit: Visit, username: str) -> None:
    password = part(visit, "Password")
    sessions = part(visit, "Where you are signed in").get_by_role("listitem")
    with own_client(visit, username) as other:
        visit.open_account_again()
        expect(sessions).to_have_count(3)
        visit.fill_in("Password", Current_password=f"correct horse {username}", New_password="another staple of mine")
        expect(password.get_by_role("status")).to_contain_text("Your password is changed. You stay signed in here")
        for field in password.get_by_role("textbox").all():
            expect(field).to_have_value("")
        expect(sessions).to_have_count(1)
        assert ended(other)
    visit.open_account_again()
    expect(sessions).to_have_count(1)
    expect(sessions).to_contain_text("This one")
    visit.page.keyboard.press("Escape")
    visit.answer_of(visit.page.get_by_role("button", name="Try the cat").click)
    visit.page.get_by_role("button", name="Sign out").click()
    visit.fill_in("Sign in", Username=username, Password="another staple of mine")
    expect(visit.page.get_by_role("button", name=f"Account of {username}")).to_be_visible()


def test_a_password_that_is_refused_says_why_beside_its_field(visit: Visit, username: str) -> None:
    current = part(visit, "Password").get_by_label("Current password")
    new = part(visit, "Password").get_by_label("New password")
    visit.fill_in("Password", Current_password="not mine", New_password="another staple of mine")
    expect(current).to_have_accessible_description("This is not your current password.")
    expect(current).to_be_focused()
    visit.fill_in("Password", Current_password=f"correct horse {username}", New_password="password1")
    expect(new).to_have_accessible_description(re.compile("one of the most used passwords|too easy to guess"))
    expect(new).to_be_focused()
    visit.fill_in("Password", New_password="short")
    expect(new).to_have_accessible_description(re.compile("^Take at least 8"))
    visit.expected_refusals = [("/users/me/password", 403), ("/users/me/password", 422)]


def test_too_many_attempts_at_the_password_say_how_long_to_wait(visit: Visit, username: str) -> None:
    visit.page.route("**/users/me/password", refuse(429, headers={"Retry-After": "900"}), times=1)
    visit.fill_in("Password", Current_password="not mine", New_password="another staple of mine")
    notice = part(visit, "Password").get_by_role("alert")
    expect(notice).to_contain_text("Passwords can be tried a few times only. Try again in 15 minutes.")
    visit.expected_refusals = [("/users/me/password", 429)]


def test_a_password_manager_knows_whose_password_it_is(visit: Visit, username: str) -> None:
    form = visit.page.locator("#password-form")
    expect(form.locator("input[autocomplete=username]")).to_have_value(username)
    assert [field.get_attribute("autocomplete") for field in form.get_by_role("textbox").all()] == [
        "current-password",
        "new-password",
    ]


# Data


def test_ones_data_comes_as_a_file(visit: Visit, username: str, tmp_path: Path) -> None:
    with visit.page.expect_download() as download:
        part(visit, "Your data").get_by_role("button", name="Download your data").click()
    assert download.value.suggested_filename == "pinhole-account.json"
    download.value.save_as(tmp_path / "account.json")
    data = json.loads((tmp_path / "account.json").read_text())
    assert data["account"]["username"] == username
    assert data["events"][0]["type"] == "account.created"
    expect(part(visit, "Your data").get_by_role("status")).to_contain_text("pinhole-account.json")


def test_data_that_cannot_be_had_now_say_so(visit: Visit, username: str) -> None:
    visit.page.route("**/users/me/export", lambda route: route.abort(), times=1)
    part(visit, "Your data").get_by_role("button", name="Download your data").click()
    expect(part(visit, "Your data").get_by_role("alert")).to_contain_text("Pinhole cannot be reached")


# The end


@pytest.mark.parametrize(("is_erased", "restored"), [(False, 200), (True, 404)], ids=["deleted", "erased"])
def test_an_account_is_deleted_by_who_types_its_name(
    visit: Visit, username: str, admin: httpx.Client, is_erased: bool, restored: int
) -> None:
    deletion = part(visit, "Delete account")
    account_id = admin.get("/users", params={"username": username}).json()[0]["id"]
    if is_erased:
        deletion.get_by_role("checkbox", name="Erase it").check()
    visit.fill_in("Delete account", To_confirm="somebody-else")
    field = deletion.get_by_role("textbox")
    expect(field).to_have_accessible_description(f"This is not your username. Type {username}.")
    assert admin.get(f"/users/{account_id}").status_code == 200
    visit.fill_in("Delete account", To_confirm=username)
    expect(visit.page.get_by_role("dialog")).to_be_hidden()
    expect(visit.alert).to_contain_text("Your account is erased" if is_erased else "Your account is deleted")
    expect(visit.page.get_by_role("heading", name="Sign in")).to_be_focused()
    assert visit.page.evaluate("sessionStorage.length") == 0
    assert admin.get(f"/users/{account_id}").status_code == 404
    assert admin.post(f"/users/{account_id}/restore").status_code == restored


def test_the_last_administrator_is_told_why_they_stay(visit: Visit, username: str, admin: httpx.Client) -> None:
    account_id = admin.get("/users", params={"username": username}).json()[0]["id"]
    visit.page.route(f"**/users/{account_id}", refuse(409, detail="there is no other enabled administrator"), times=1)
    visit.fill_in("Delete account", To_confirm=username)
    notice = part(visit, "Delete account").get_by_role("alert")
    expect(notice).to_contain_text("The last administrator stays")
    visit.page.keyboard.press("Escape")
    visit.answer_of(visit.page.get_by_role("button", name="Try the cat").click)
    visit.expected_refusals = [(f"/users/{account_id}", 409)]
