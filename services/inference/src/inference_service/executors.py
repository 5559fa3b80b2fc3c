"""Threads with names, for work that must not hold up the event loop."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

AT_ONCE_BYTES = 256 * 1024
"""Work on more than these may take a millisecond or many."""


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


async def run_by_size(size_bytes: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what `work` does with so many bytes: here where they are few, else on a thread."""
    if size_bytes <= AT_ONCE_BYTES:
        return work(*args, **kwargs)
    return await asyncio.to_thread(work, *args, **kwargs)
