"""Sessions of the web page in a real browser: they go on behind the scenes, in all tabs, until they end in all."""

import pytest
from playwright.sync_api import Route, expect

from tests.e2e.visit import Visit, refuse


def test_a_token_that_is_refused_is_renewed_behind_the_scenes(visit: Visit, cat: bytes) -> None:
    visit.sign_in()
    renewals = visit.requests_for("/token")
    visit.page.route("**/predict?*", refuse(401, detail="the token is not valid: expired"), times=1)
    visit.choose("chelsea.png", cat)
    expect(visit.names).to_have_count(5)
    assert [(request.post_data_json or {})["grant_type"] for request in renewals] == ["refresh_token"]
    expect(visit.alert).to_be_empty()
    visit.expected_refusals = [("/predict", 401)]


def test_requests_that_need_a_new_token_share_one_renewal(visit: Visit) -> None:
    visit.sign_in()
    visit.page.goto("/docs")  # where no session is open yet
    renewals = visit.requests_for("/token")
    user, same_user = visit.page.evaluate("""async () => {
        const { Session } = await import("/static/session.js");
        const session = new Session();
        return Promise.all([session.send("/users/me"), session.send("/users/me")]);
    }""")
    assert user["id"] == same_user["id"]
    assert len(renewals) == 1


def test_a_reload_keeps_the_session(visit: Visit) -> None:
    username = visit.sign_in()
    visit.page.reload()
    expect(visit.page.get_by_text(username)).to_be_visible()


def test_a_session_that_has_ended_leads_back_to_the_sign_in(visit: Visit) -> None:
    visit.sign_in()
    visit.page.evaluate("""() => {
        const key = sessionStorage.key(0);
        sessionStorage.setItem(key, sessionStorage.getItem(key).replace('"refreshToken":"', '"refreshToken":"not-'));
    }""")
    visit.page.reload()
    expect(visit.alert).to_contain_text("Your session has ended")
    expect(visit.page.get_by_role("button", name="Sign in")).to_be_visible()
    assert visit.page.evaluate("sessionStorage.length") == 0
    visit.expected_refusals = [("/token", 400)]


def test_while_tokens_cannot_be_renewed_one_that_is_good_goes_on_working(visit: Visit, cat: bytes) -> None:
    def shorten(route: Route) -> None:
        response = route.fetch()
        route.fulfill(response=response, json={**response.json(), "expires_in": 20})

    visit.page.route("**/token", shorten, times=1)
    visit.page.route("**/models", lambda route: route.fulfill(content_type="application/json", body="[]"))
    visit.page.route("**/users/me", lambda route: route.fulfill(json={"username": "ada", "full_name": None}))
    away = {"error": "temporarily_unavailable", "error_description": "accounts cannot be asked"}
    username = visit.sign_up()
    visit.page.goto("/")
    with visit.page.expect_response("**/token"):
        visit.fill_in("Sign in", Username=username, Password=f"correct horse {username}")
    visit.page.route("**/token", lambda route: route.fulfill(status=503, json=away))
    assert visit.answer_of(lambda: visit.choose("chelsea.png", cat))["label"]
    visit.expected_refusals = [("/token", 503)] * len(visit.refused)
    assert visit.refused


# Several tabs: duplicating one copies its storage, and a refresh token works once


@pytest.fixture
def copy(visit: Visit) -> Visit:
    """A copy of the tab of `visit`, which is signed in."""
    username = visit.sign_in()
    with visit.page.expect_popup() as popup:
        visit.page.evaluate("open('/')")  # it gets the storage of its opener, as a duplicate does
    copy = Visit(popup.value, visit.pinhole)
    expect(copy.page.get_by_text(username)).to_be_visible()
    return copy


def renew(visit: Visit) -> None:
    """Have the page renew its tokens, by a token that is refused."""
    visit.page.route("**/predict?*", refuse(401, detail="the token is not valid: expired"), times=1)
    with visit.page.expect_response("**/token") as renewal:
        visit.page.get_by_role("button", name="Try the cat").click()
    assert renewal.value.status == 200
    expect(visit.names).to_have_count(5)
    visit.expected_refusals.append(("/predict", 401))


def test_a_copied_tab_and_its_original_both_stay_signed_in(visit: Visit, copy: Visit) -> None:
    for tab in (copy, visit, visit, copy, copy, visit):
        renew(tab)
    copy.check()


def test_a_copied_tab_has_its_token_from_the_original(visit: Visit, copy: Visit) -> None:
    renewals = copy.requests_for("/token")
    copy.page.reload()
    expect(copy.page.get_by_role("button", name="Sign out")).to_be_visible()
    assert renewals == []


def test_a_tab_that_heard_of_no_renewal_asks_first(visit: Visit, copy: Visit) -> None:
    copy.page.goto("/docs")  # no session is open there, as in a tab that sleeps
    for _ in range(3):
        renew(visit)
    copy.page.goto("/")
    renew(copy)
    renew(visit)


def test_tabs_go_on_where_the_newest_of_them_was_closed(visit: Visit, copy: Visit) -> None:
    for _ in range(3):
        renew(copy)
    copy.page.close()
    visit.page.reload()
    renew(visit)


def test_tabs_that_renew_at_once_stay_signed_in(visit: Visit, copy: Visit) -> None:
    visit.page.goto("/docs")
    copy.page.goto("/docs")
    for tab in (visit, copy):
        tab.page.evaluate("void setTimeout(() => { location.href = '/'; }, 500)")
    for tab in (visit, copy):
        expect(tab.page.get_by_role("button", name="Sign out")).to_be_visible()
    for tab in (visit, copy, visit, copy):
        renew(tab)


def test_signing_out_of_one_tab_signs_out_all_of_its_session(visit: Visit, copy: Visit) -> None:
    other = Visit(visit.page.context.new_page(), visit.pinhole)
    username = other.sign_in()
    copy.page.get_by_role("button", name="Sign out").click()
    expect(visit.alert).to_contain_text("Your session has ended")
    expect(visit.page.get_by_role("heading", name="Sign in")).to_be_focused()
    assert visit.page.evaluate("sessionStorage.length") == 0
    other.page.reload()
    expect(other.page.get_by_text(username)).to_be_visible()
    other.check()
