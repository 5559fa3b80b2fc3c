"""Threads with names, for work that must not hold up the event loop."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial


@asynccontextmanager
async def open_executor(
    name: str, threads: int, *, prepare: Callable[[], object] = lambda: None
) -> AsyncIterator[ThreadPoolExecutor]:
    """Yield a pool of `threads` threads, each of which calls `prepare` first.

    At the end what has not started is dropped, and what runs is waited for.
    """
    executor = ThreadPoolExecutor(threads, thread_name_prefix=name, initializer=prepare)
    try:
        yield executor
    finally:
        await asyncio.to_thread(partial(executor.shutdown, cancel_futures=True))
