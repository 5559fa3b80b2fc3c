"""Waits for what comes about by itself."""

import asyncio
from collections.abc import Awaitable, Callable


async def eventually(holds: Callable[[], Awaitable[bool]], *, within_seconds: float = 10) -> None:
    """Return when `holds` says so; a TimeoutError otherwise."""
    async with asyncio.timeout(within_seconds):
        while not await holds():  # noqa: ASYNC110 - another process sets no event
            await asyncio.sleep(0.02)
