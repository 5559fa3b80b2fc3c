"""What is told of children that are not ready yet."""

import json
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from gateway.laptop.children import Child
from gateway.laptop.data_folder import prepare_data_folder
from gateway.laptop.output import Output
from gateway.laptop.readiness import report_readiness
from starlette.types import Receive, Scope, Send

from tests.unit.gateway.serving import serve


@dataclass
class Line:
    """One of honcho's messages."""

    name: str
    text: str

    @property
    def data(self) -> bytes:
        return f"{self.text}\n".encode()


class Unready:
    """A service without a model until it has been asked some times."""

    def __init__(self, times: int) -> None:
        self.times = times

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return
        self.times -= 1
        status = 503 if self.times >= 0 else 200
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps({"detail": "no model"}).encode()})


def test_a_child_that_is_waited_for_is_told_of_with_each_new_warning_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = prepare_data_folder(tmp_path, {})
    events: list[str] = []
    with serve(Unready(4)) as url, Output(["users"], folder, is_shown=False) as output:

        def last_warning(name: str) -> str:
            output.write(Line(name, f"{time.time()} [warning  ] database_unavailable     [x] reason=Refused"))
            output.write(Line(name, "what is no warning"))
            return output.last_warning(name)

        report_readiness(
            [Child("users", "users_service", int(url.rpartition(":")[2]))],
            threading.Event(),
            when_ready=events.append,
            when_all_are=lambda: events.append("all"),
            last_warning=last_warning,
            started=time.monotonic(),
            patience_seconds=0,
        )
    told = capsys.readouterr().out.splitlines()
    # A server on a busy machine may not answer in time at first.
    assert told[0].startswith("still waiting for users: no ")
    assert told[0].endswith(" (database_unavailable [x] reason=Refused)")
    assert "still waiting for users: no model" in told[1:-1]
    assert "database_unavailable" not in "".join(told[1:])
    assert told[-1].startswith("users ready in ")
    assert events == ["users", "all"]
