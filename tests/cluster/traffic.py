"""Callers who ask again and again, and remember what they were answered."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx

from tests.cluster.releases import until

PAUSE_SECONDS = 0.05


@dataclass(frozen=True)
class Answer:
    """What became of a request: the status, or the name of the error where there was no answer."""

    path: str
    began: float
    ended: float
    outcome: int | str


@dataclass
class Traffic:
    """The answers until now, in the order in which they came."""

    answers: list[Answer] = field(default_factory=list)

    @property
    def failed(self) -> list[Answer]:
        """Those that are not 200."""
        return [answer for answer in self.answers if answer.outcome != 200]

    def wait_for_more(self, count: int = 20) -> None:
        """Wait until so many more requests were answered."""
        enough = len(self.answers) + count
        until(f"{count} more answers", lambda: len(self.answers) >= enough or None)

    def since(self, moment: float) -> str:
        """Return what has failed in words: when it began and ended, in seconds after `moment`."""
        lines = [
            f"{each.path} {each.began - moment:+.1f} s to {each.ended - moment:+.1f} s: {each.outcome}"
            for each in self.failed
        ]
        return "\n".join([f"{len(lines)} of {len(self.answers)} failed", *lines[:50]])

    def ask(self, send: Callable[[], httpx.Response]) -> None:
        """Send one request."""
        began = time.monotonic()
        try:
            response = send()
            path, outcome = response.request.url.path, response.status_code
        except httpx.TransportError as error:
            self.answers.append(Answer(error.request.url.path, began, time.monotonic(), type(error).__name__))
        else:
            self.answers.append(Answer(path, began, time.monotonic(), outcome))


@contextmanager
def traffic(*senders: Callable[[], httpx.Response]) -> Iterator[Traffic]:
    """Have each sender send one request after the other, all at once; it begins when all were answered."""
    ended = threading.Event()
    seen = Traffic()

    def go_on(send: Callable[[], httpx.Response]) -> None:
        while not ended.is_set():
            seen.ask(send)
            ended.wait(PAUSE_SECONDS)

    threads = [threading.Thread(target=go_on, args=[send]) for send in senders]
    for thread in threads:
        thread.start()
    try:
        seen.wait_for_more(len(senders))
        yield seen
        seen.wait_for_more(len(senders))
    finally:
        ended.set()
        for thread in threads:
            thread.join()
