"""The start of an application: it is given up when the process is told to end, and why it fails is a sentence."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TypeVar

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from servicekit.background import running
from servicekit.health import Readiness
from servicekit.logs import get_logger

_LOOKS_EVERY_SECONDS = 0.1

log = get_logger(__name__)
T = TypeVar("T")


@asynccontextmanager
async def opened_unless_ending(resource: AbstractAsyncContextManager[T], readiness: Readiness) -> AsyncIterator[T]:
    """Open `resource`, but no longer than until the process is told to end: a database may be away for hours."""
    task = asyncio.current_task()
    assert task is not None
    async with AsyncExitStack() as stack:
        async with running(_cancel_at_the_end(task, readiness), "start"):
            opened = await stack.enter_async_context(resource)
        yield opened


async def _cancel_at_the_end(task: asyncio.Task[object], readiness: Readiness) -> None:
    while not readiness.is_ending:  # noqa: ASYNC110 it is a signal that ends it, which may wake nobody
        await asyncio.sleep(_LOOKS_EVERY_SECONDS)
    log.info("start_given_up")
    task.cancel()


class StartInASentence:
    """Says why a service cannot start, where that is known: Starlette makes a traceback of any reason."""

    def __init__(self, app: ASGIApp, readiness: Readiness) -> None:
        self._app = app
        self._readiness = readiness

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass what comes on; of a start that fails, the message."""
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return

        async def send_reason(message: Message) -> None:
            if message["type"] == "lifespan.startup.failed":
                error = sys.exception()
                if isinstance(error, SystemExit):
                    message = {**message, "message": str(error)}
                elif isinstance(error, asyncio.CancelledError) and self._readiness.is_ending:
                    message = {**message, "message": ""}
            await send(message)

        await self._app(scope, receive, send_reason)
