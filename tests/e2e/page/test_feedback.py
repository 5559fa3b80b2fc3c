"""What the page says while something takes its time, and when it does other than was asked, in a real browser."""

from collections.abc import Callable

from playwright.sync_api import Route, expect

from tests.e2e.visit import Visit, find_violations


def test_the_camera_is_there_before_it_is_known_who_is_signed_in(visit: Visit) -> None:
    first, second = visit.sign_up(), visit.sign_up()
    waiting: list[Route] = []
    visit.page.route("**/users/me", lambda route: waiting.append(route), times=1)
    visit.page.goto("/")
    visit.fill_in("Sign in", Username=first, Password=f"correct horse {first}")
    expect(visit.page.get_by_role("heading", level=1)).to_be_focused()
    visit.page.get_by_role("button", name="Sign out").click()
    visit.fill_in("Sign in", Username=second, Password=f"correct horse {second}")
    expect(visit.page.get_by_text(second)).to_be_visible()
    waiting[0].fulfill(json={"username": first, "full_name": None})
    visit.answer_of(visit.page.get_by_role("button", name="Try the cat").click)
    expect(visit.page.get_by_text(second)).to_be_visible()


def test_without_its_script_the_page_can_be_read(visit: Visit) -> None:
    visit.page.route("**/app.js", lambda route: route.abort())
    visit.page.goto("/")
    assert [line for line in find_violations(visit.page) if line.startswith("color-contrast")] == []


def test_the_page_says_that_it_looks_for_what_speaks_for_a_name(visit: Visit, cat: bytes) -> None:
    visit.sign_in()
    requests = visit.requests_for("/explain")
    label = visit.answer_of(lambda: visit.choose("chelsea.png", cat))["label"]
    waiting: list[Route] = []
    visit.page.route("**/explain?*", lambda route: waiting.append(route), times=1)
    visit.page.get_by_role("button", name=f"Show what speaks for {label}").click()
    busy = visit.page.get_by_role("button", name="Looking for it")
    expect(busy).to_have_attribute("aria-busy", "true")
    expect(visit.page.get_by_role("status")).to_have_text(f"Looking for what speaks for {label}")
    busy.click()
    with visit.page.expect_response("**/explain?*"):
        waiting[0].continue_()
    toggle = visit.page.get_by_role("button", name=f"Show what speaks for {label}")
    expect(toggle).to_have_attribute("aria-pressed", "true")
    expect(toggle).not_to_have_attribute("aria-busy", "true")
    assert len(requests) == 1


def test_on_a_narrow_screen_the_heat_map_comes_into_view(open_visit: Callable[..., Visit], cat: bytes) -> None:
    visit = open_visit(width=320, height=640)
    visit.sign_in()
    visit.answer_of(lambda: visit.choose("chelsea.png", cat))
    with visit.page.expect_response("**/explain?*"):
        visit.page.get_by_role("button", name="Show what speaks for").click()
    expect(visit.page.get_by_role("status")).to_contain_text("the warmer, the more")
    expect(visit.page.get_by_role("img", name="Preview of chelsea.png")).to_be_in_viewport(ratio=1)


def test_on_a_narrow_screen_one_sees_that_the_page_is_at_work(open_visit: Callable[..., Visit], cat: bytes) -> None:
    visit = open_visit(width=320, height=640)
    visit.sign_in()
    visit.page.route("**/predict?*", lambda _route: None)  # never answered
    visit.choose("chelsea.png", cat)
    expect(visit.page.get_by_text("Looking…")).to_be_in_viewport()


def test_of_several_pictures_the_first_is_taken_and_it_is_said(visit: Visit, cat: bytes) -> None:
    visit.sign_in()
    visit.answer_of(lambda: visit.transfer("drop", "first.png", "second.png", "third.png", content=cat))
    expect(visit.page.get_by_text("first.png")).to_contain_text("One picture at a time: this is the first of 3.")


def test_a_space_after_the_username_is_no_part_of_it(visit: Visit) -> None:
    username = visit.sign_up()
    visit.page.goto("/")
    visit.fill_in("Sign in", Username=f"{username} ", Password=f"correct horse {username}")
    expect(visit.page.get_by_text(username)).to_be_visible()


def test_with_colours_of_the_readers_own_one_sees_whether_the_heat_map_is_shown(visit: Visit, cat: bytes) -> None:
    visit.sign_in()
    visit.page.emulate_media(forced_colors="active", reduced_motion="reduce")
    visit.answer_of(lambda: visit.choose("chelsea.png", cat))
    toggle = visit.page.get_by_role("button", name="Show what speaks for")
    highlight = visit.page.evaluate("""() => {
        const probe = document.createElement("i");
        probe.style = "forced-color-adjust: none; background: Highlight";
        document.body.append(probe);
        return getComputedStyle(probe).backgroundColor;
    }""")
    with visit.page.expect_response("**/explain?*"):
        toggle.click()
    expect(toggle).to_have_attribute("aria-pressed", "true")
    expect(toggle).to_have_css("background-color", highlight)


def test_text_can_be_spaced_out_on_a_narrow_screen(open_visit: Callable[..., Visit]) -> None:
    visit = open_visit(width=320, height=640)
    visit.sign_in()
    visit.answer_of(visit.page.get_by_role("button", name="Try the cat").click)
    visit.open_account()
    account = visit.page.get_by_role("dialog")
    expect(account.get_by_role("listitem")).to_have_count(2)
    visit.page.evaluate("""() => {
        for (const { style } of document.querySelectorAll("body *")) {
            Object.assign(style, { lineHeight: "1.5", letterSpacing: "0.12em", wordSpacing: "0.16em" });
        }
    }""")  # what WCAG 1.4.12 names
    assert account.evaluate("account => account.scrollWidth - account.clientWidth") == 0
    visit.page.keyboard.press("Escape")
    assert visit.page.evaluate("document.documentElement.scrollWidth") == 320


def test_on_a_narrow_screen_the_choice_of_a_service_stands_beside_its_name(open_visit: Callable[..., Visit]) -> None:
    page = open_visit(width=320, height=640).page
    page.goto("/docs")
    choice = page.get_by_label("Service", exact=True)
    expect(choice).to_be_visible()
    select, name = choice.bounding_box(), page.get_by_text("Service", exact=True).bounding_box()
    assert select
    assert name
    assert name["y"] < select["y"] + select["height"] / 2 < name["y"] + name["height"]
    assert page.evaluate("document.documentElement.scrollWidth") == 320


def test_the_page_of_the_apis_takes_the_colours_that_the_system_likes(open_visit: Callable[..., Visit]) -> None:
    page = open_visit("dark").page
    page.goto("/docs")
    expect(page.get_by_role("heading", name="Pinhole inference")).to_be_visible()

    def lightness() -> int:
        return int(
            page.evaluate("""() => {
                const colour = getComputedStyle(document.querySelector(".swagger-ui")).backgroundColor;
                const [red, green, blue, alpha = 1] = colour.match(/[\\d.]+/g).map(Number);
                return alpha ? Math.max(red, green, blue) : 255;
            }""")
        )

    assert lightness() < 64
    page.emulate_media(color_scheme="light")
    expect(page.locator("html")).not_to_have_class("dark-mode")
    assert lightness() > 192
