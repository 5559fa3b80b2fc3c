"""Callers who do not wait for their answer."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

from inference_service.errors import CallerLeft

T = TypeVar("T")


async def while_connected(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Return what `work` returns, or cancel it as soon as the caller closes the connection.

    The body of the request must have been read: `receive` then has nothing to say but that.

    Raises:
        CallerLeft: the caller was faster.
    """
    watching = asyncio.create_task(_disconnect(receive))
    answering = asyncio.current_task()
    assert answering is not None
    has_left = is_over = False

    def leave(_watching: asyncio.Task[None]) -> None:
        nonlocal has_left
        if not is_over:
            has_left = answering.cancel()

    watching.add_done_callback(leave)
    try:
        return await work
    except asyncio.CancelledError:
        if has_left and not answering.uncancel():
            raise CallerLeft("the connection was closed before the answer") from None
        raise
    finally:
        is_over = True
        watching.cancel()


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
