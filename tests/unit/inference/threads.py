"""Tells what is left to threads by an event loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any


class RecordingExecutor(ThreadPoolExecutor):
    """Keeps the names of the functions that `asyncio.to_thread` gives to it."""

    def __init__(self) -> None:
        super().__init__(2)
        self.names: list[str] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if isinstance(fn, partial) and fn.args:
            self.names.append(getattr(fn.args[0], "__name__", repr(fn.args[0])))
        return super().submit(fn, *args, **kwargs)


def recorded_threads() -> list[str]:
    """Return the list of what the running loop leaves to threads from now on."""
    executor = RecordingExecutor()
    asyncio.get_running_loop().set_default_executor(executor)
    return executor.names
