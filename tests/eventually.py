"""Waits for what comes about by itself."""

import asyncio
import time
from collections.abc import Awaitable, Callable


async def eventually(holds: Callable[[], Awaitable[bool]], *, within_seconds: float = 10) -> None:
    """Return when `holds` says so; a TimeoutError otherwise."""
    async with asyncio.timeout(within_seconds):
        while not await holds():  # noqa: ASYNC110 - another process sets no event
            await asyncio.sleep(0.02)


def wait_until(holds: Callable[[], bool], *, within_seconds: float = 60) -> None:
    """Return when `holds` says so, where there is no event loop; an AssertionError otherwise."""
    gives_up_at = time.monotonic() + within_seconds
    while not holds():
        assert time.monotonic() < gives_up_at
        time.sleep(0.05)
