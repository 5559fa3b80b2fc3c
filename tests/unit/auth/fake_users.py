"""A users service for the tests of auth: it knows a few accounts, and can be told to misbehave."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.http_server import QuietHandler, serving

ADA = "01890a5d-ac96-774b-bcce-b302099a8057"
ROOT = "01890a5d-ac96-774b-bcce-b302099a8058"
PASSWORD = "correct horse battery"


@dataclass(frozen=True)
class Asked:
    """A request that users got."""

    path: str
    authorization: str
    body: bytes


@dataclass(frozen=True)
class Answer:
    """What users says, whatever it is asked."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class FakeUsers:
    """Accounts by id, with their roles; the name of each is in `names`, what happened to them in `events`.

    What it was asked for of these is not in `asked`, but in `events_after`: services ask again and again.
    """

    url: str
    roles: dict[str, list[str]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    answer: Answer | None = None
    events: list[dict[str, Any]] = field(default_factory=list)
    events_answer: Answer | None = None
    events_page: int = 1000
    events_after: list[int] = field(default_factory=list)
    was_asked: threading.Event = field(default_factory=threading.Event)
    may_answer: threading.Event = field(default_factory=threading.Event)

    def reset(self) -> None:
        self.names = {"ada": ADA, "root": ROOT}
        self.roles = {ADA: ["user"], ROOT: ["user", "admin"]}
        self.asked.clear()
        self.answer = None
        self.events.clear()
        self.events_answer = None
        self.events_page = 1000
        self.events_after.clear()
        self.may_answer.set()

    def tell(self, type: str, account_id: str = ADA, *, at: datetime | None = None, **details: Any) -> None:
        """Let something have happened."""
        self.events.append(
            {
                "sequence": len(self.events) + 1,
                "at": (at or datetime.now(UTC)).isoformat(),
                "type": type,
                "account_id": account_id,
                "actor": None,
                "details": details,
                "hash": "00" * 32,
            }
        )

    def respond(self, asked: Asked) -> Answer:
        if asked.path.startswith("/internal/events"):
            query = {name: int(values[0]) for name, values in parse_qs(urlsplit(asked.path).query).items()}
            self.events_after.append(query["after"])
            return self.events_answer or self._list_events(**query)
        self.asked.append(asked)
        self.was_asked.set()
        self.may_answer.wait(10)
        if self.answer is not None:
            return self.answer
        if asked.path == "/internal/credentials/verify":
            credentials = json.loads(asked.body)
            account_id = self.names.get(credentials["username"])
            is_right = account_id in self.roles and credentials["password"] == PASSWORD
            account = self._account(account_id) | {"last_event": len(self.events)} if is_right else None
            return _json({"account": account})
        account_id = asked.path.removeprefix("/internal/accounts/")
        return _json(self._account(account_id)) if account_id in self.roles else Answer(404)

    def _list_events(self, *, after: int, limit: int = 1000) -> Answer:
        return _json({"events": self.events[after : after + min(limit, self.events_page)], "last": len(self.events)})

    def _account(self, account_id: str | None) -> dict[str, Any]:
        assert account_id is not None
        return {"id": account_id, "roles": self.roles[account_id]}


def _json(document: Any) -> Answer:
    return Answer(200, json.dumps(document).encode(), {"Content-Type": "application/json"})


@contextmanager
def serve_users() -> Iterator[FakeUsers]:
    """Run the service on a free loopback port."""

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            self._answer(b"")

        def do_POST(self) -> None:
            self._answer(self.rfile.read(int(self.headers["Content-Length"])))

        def _answer(self, body: bytes) -> None:
            answer = users.respond(Asked(self.path, self.headers.get("Authorization", ""), body))
            self.respond(answer.status, answer.body, answer.headers)

    with serving(Handler) as url:
        users = FakeUsers(url)
        yield users
