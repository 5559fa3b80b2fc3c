"""Real servers on loopback for the tests of the gateway, and the services that it stands in front of."""

import asyncio
import gzip
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

WAIT_SECONDS = 10.0
GZIPPED = gzip.compress(b"squeezed")


@contextmanager
def serve(app: ASGIApp) -> Iterator[str]:
    """Yield the origin of `app` while uvicorn serves it, with its lifespan running."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, server_header=False, proxy_headers=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            # Callers need not wait for the server: the listener keeps them until it accepts.
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(WAIT_SECONDS)


@contextmanager
def refusing_origin() -> Iterator[str]:
    """Yield an origin that refuses connections."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


def connect(origin: str) -> closing[http.client.HTTPConnection]:
    """Yield a connection that sends a target as it is written: other clients simplify paths."""
    return closing(http.client.HTTPConnection(urlsplit(origin).netloc, timeout=WAIT_SECONDS))


class StandInService:
    """A service whose behaviour is named by the last segment of the path; elsewhere it tells what it got."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.requests = 0
        self.received = threading.Event()
        """The first part of a body, or a request that waits, is there."""
        self.may_go_on = threading.Event()
        self.saw_disconnect = threading.Event()
        self.answered_early = threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        self.requests += 1
        behaviour = getattr(self, "_" + scope["path"].rsplit("/", 1)[-1].replace("-", "_"), self._echo)
        await behaviour(scope, receive, send)

    async def _echo(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await _read(receive)
        seen = {
            "service": self.name,
            "method": scope["method"],
            "target": (scope["raw_path"] + b"?" + scope["query_string"]).decode("ascii"),
            "fields": [(name.decode("ascii"), value.decode("latin-1")) for name, value in scope["headers"]],
            "body": body.decode("latin-1"),
        }
        await _answer(send, 200, json.dumps(seen).encode())

    async def _early_401(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _answer(send, 401, b"who?")
        self.answered_early.set()

    async def _early_413(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _answer(send, 413, b"too big", (b"connection", b"close"))

    async def _fields(self, scope: Scope, receive: Receive, send: Send) -> None:
        fields = [
            (b"Set-Cookie", b"a=1"),
            (b"link", b"<x>"),
            (b"set-cookie", b"b=2"),
            (b"link", b"<y>"),
            (b"content-encoding", b"gzip"),
            (b"connection", b"x-private"),
            (b"x-private", b"1"),
            (b"keep-alive", b"timeout=5"),
            (b"x-request-id", b"mine"),
        ]
        await _answer(send, 200, GZIPPED, *fields)

    async def _body_in_parts(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        while not message["body"]:
            message = await receive()
        self.received.set()
        await _answer(send, 200, message["body"] + await _read(receive))

    async def _answer_in_parts(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await asyncio.to_thread(self.may_go_on.wait, WAIT_SECONDS)
        await send({"type": "http.response.body", "body": b"two"})

    async def _half_an_answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"100")]})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})

    async def _slow(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Never answer; tell when the request was given up."""
        self.received.set()
        while (await receive())["type"] != "http.disconnect":
            pass
        self.saw_disconnect.set()


class Dropper:
    """Takes connections and closes them once a request is there, with no answer."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.origin = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def drop_one(self) -> None:
        """Serve one connection."""
        with self._listener, self._listener.accept()[0] as connection:
            connection.recv(65536)


async def _live(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


async def _read(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


async def _answer(send: Send, status: int, body: bytes, *fields: tuple[bytes, bytes]) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [length, *fields]})
    await send({"type": "http.response.body", "body": body})


def echoed(response: http.client.HTTPResponse) -> dict[str, Any]:
    """Return what the service that answered has got."""
    assert response.status == 200
    seen: dict[str, Any] = json.loads(response.read())
    return seen
