"""A stand-in for each service that `pinhole-run` starts: it is told by variables and paths what to do."""

import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs

from servicekit.health import Readiness
from starlette.types import ASGIApp, Receive, Scope, Send

TOKEN = "a.b.c"
PICTURE = b"a picture"


def factory(name: str) -> Callable[[], ASGIApp]:
    """Return the `create_app` of the service `name`."""

    def create_app() -> ASGIApp:
        if os.environ.get("FAILING") == name:
            raise SystemExit("bad configuration\n  DISK: expected one")
        app.state = SimpleNamespace(readiness=Readiness())  # type: ignore[attr-defined]  # the server tells it the end
        return app

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(name, receive, send)
            return
        body = await _read(receive)
        status = 503 if scope["path"] == "/readyz" and os.environ.get("UNREADY") == name else 200
        match scope["path"]:
            case "/readyz":
                answer = b'{"detail": "no model"}'
            case "/variables":
                answer = json.dumps(dict(os.environ)).encode()
            case "/die":
                print(f"{name} is out of disk", file=sys.stderr, flush=True)
                os._exit(3)
            case "/static/sample-cat.jpg":
                answer = PICTURE
            case "/token":
                answer = _token(body)
            case "/predict":
                answer = b"a cat" if _is_signed_in(scope) and PICTURE in body else b"who are you?"
            case path:
                raise AssertionError(path)
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": answer})

    return create_app


async def _live(name: str, receive: Receive, send: Send) -> None:
    await receive()
    if os.environ.get("BREAKING") == name:
        await send({"type": "lifespan.startup.failed", "message": "Traceback\nSystemExit: cannot write the disk\n"})
        return
    await send({"type": "lifespan.startup.complete"})
    await receive()
    if os.environ.get("HANGING") == name:
        await asyncio.get_running_loop().create_future()
    await send({"type": "lifespan.shutdown.complete"})


async def _read(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def _token(body: bytes) -> bytes:
    form = parse_qs(body.decode())
    password = Path(os.environ["USERS_ADMIN_PASSWORD_FILE"]).read_text().strip()
    expected = {"grant_type": ["password"], "username": ["admin"], "password": [password]}
    return json.dumps({"access_token": TOKEN if form == expected else "wrong", "token_type": "Bearer"}).encode()


def _is_signed_in(scope: Scope) -> bool:
    return dict(scope["headers"]).get(b"authorization") == f"Bearer {TOKEN}".encode()
