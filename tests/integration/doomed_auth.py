"""An auth service that can be told to die when it has done its work and has not answered yet."""

import os
import signal

from auth_service.main import create_app as create_auth
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

DIE = "X-Die-Before-Answering"


def create_app() -> ASGIApp:
    """Return the application for `uvicorn --factory`."""
    auth = create_auth()

    async def doomed(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_or_die(message: Message) -> None:
            if scope["type"] == "http" and DIE in Headers(scope=scope):
                os.kill(os.getpid(), signal.SIGKILL)
            await send(message)

        await auth(scope, receive, send_or_die)

    return doomed
