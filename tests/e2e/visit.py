"""A person's look at the web page, for the tests of it."""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Literal
from urllib.parse import urlsplit
from uuid import uuid4

from playwright.sync_api import ConsoleMessage, Locator, Page, Request, Response, Route, expect

from tests.e2e.conftest import Pinhole

Scheme = Literal["light", "dark"]

# Gives the page files as a mouse or the clipboard does: the page reads it from the transfer.
TRANSFER = """([kind, names, content]) => {
    const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
    const transfer = new DataTransfer();
    for (const name of names) transfer.items.add(new File([bytes], name, { type: "image/png" }));
    const common = { bubbles: true, cancelable: true };
    const events = kind === "paste"
        ? [new ClipboardEvent("paste", { clipboardData: transfer, ...common })]
        : ["dragenter", "dragover", "drop"].map((type) => new DragEvent(type, { dataTransfer: transfer, ...common }));
    for (const event of events) document.getElementById("plate").dispatchEvent(event);
}"""


@dataclass
class Visit:
    """One person's look at the page. It fails when the page complains, or talks to another origin."""

    page: Page
    pinhole: Pinhole
    complaints: list[str] = field(default_factory=list)
    refused: list[tuple[str, int]] = field(default_factory=list)
    expected_refusals: list[tuple[str, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("request", self._check_origin)
        self.page.on("response", self._note_refusal)
        self.page.on("console", self._note_console)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def sign_up(self) -> str:
        """Create an account with the password `correct horse USERNAME`, and return its user name."""
        username = f"visitor-{uuid4().hex[:12]}"
        self.pinhole.sign_up(username).close()
        return username

    def sign_in(self) -> str:
        """Open the page, sign in to a new account, and return its user name."""
        username = self.sign_up()
        self.page.goto("/")
        self.fill_in("Sign in", Username=username, Password=f"correct horse {username}")
        expect(self.page.get_by_role("button", name="Sign out")).to_be_visible()
        return username

    def fill_in(self, form: str, **values: str) -> None:
        """Fill the fields whose labels are named, with `_` for a space, and send the form."""
        region = self.page.get_by_role("region", name=form)
        for label, value in values.items():
            region.get_by_label(label.replace("_", " ")).fill(value)
        region.get_by_role("button").click()

    def open_account(self) -> None:
        self.page.get_by_role("button", name="Account of").click()
        expect(self.page.get_by_role("dialog", name="Your account")).to_be_visible()

    def open_account_again(self) -> None:
        """Have the account read anew."""
        self.page.keyboard.press("Escape")
        expect(self.page.get_by_role("dialog")).to_be_hidden()
        self.open_account()

    def choose(self, name: str, content: bytes) -> None:
        """Take a file through the file chooser."""
        chooser = self.page.locator("input[type=file]")
        chooser.set_input_files({"name": name, "mimeType": "image/png", "buffer": content})

    def transfer(self, kind: Literal["drop", "paste"], *names: str, content: bytes) -> None:
        self.page.evaluate(TRANSFER, [kind, names, base64.b64encode(content).decode()])

    def answer_of(self, act: Callable[[], None]) -> Any:
        """Do what sends a picture, and return the server's answer once the page shows it."""
        with self.page.expect_response(lambda response: urlsplit(response.url).path == "/predict") as response:
            act()
        answer = response.value.json()
        expect(self.names.first).to_contain_text(answer["label"])
        return answer

    @property
    def names(self) -> Locator:
        return self.page.get_by_role("list", name="Most likely").get_by_role("listitem")

    @property
    def alert(self) -> Locator:
        return self.page.get_by_role("alert")

    def requests_for(self, path: str) -> list[Request]:
        """Return the list that from now on holds each request for `path`."""
        requests: list[Request] = []
        self.page.on("request", lambda r: requests.append(r) if urlsplit(r.url).path == path else None)
        return requests

    def check(self) -> None:
        assert self.complaints == []
        assert self.refused == self.expected_refusals

    def _check_origin(self, request: Request) -> None:
        url = request.url.removeprefix("blob:")
        if not url.startswith((f"{self.pinhole.url}/", "data:")):
            self.complaints.append(f"a request to another origin: {request.url}")

    def _note_refusal(self, response: Response) -> None:
        if response.status >= 400:
            self.refused.append((urlsplit(response.url).path, response.status))

    def _note_console(self, message: ConsoleMessage) -> None:
        # Chromium writes a line for every refusal. Those are compared with what the test expects.
        if message.type in {"error", "warning"} and not message.text.startswith("Failed to load resource"):
            self.complaints.append(message.text)


def refuse(status: int, *, headers: dict[str, str] | None = None, **body: Any) -> Callable[[Route], None]:
    """Return a route that answers with a problem in the server's place."""
    problem = {"type": "urn:pinhole:problem:test", "title": "Refused", "status": status, "instance": "/", **body}

    def answer(route: Route) -> None:
        content_type = "application/problem+json"
        route.fulfill(status=status, headers=headers, content_type=content_type, body=json.dumps(problem))

    return answer


def find_violations(page: Page) -> list[str]:
    """Return what axe finds against WCAG 2.2 A and AA."""
    # Decoration that overlaps text would leave contrast unjudged.
    page.evaluate("document.querySelectorAll('.light, .projection').forEach((picture) => picture.remove())")
    page.evaluate((resources.files("axe_playwright_python") / "axe.min.js").read_text())
    report = page.evaluate("axe.run({resultTypes: ['violations']})")
    return [f"{v['id']}: {node['html']}" for v in report["violations"] for node in v["nodes"]]
