"""Applications that never start, or take long."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI


def killed() -> FastAPI:
    """Return one whose process is killed while it starts, as for lack of memory."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        os.kill(os.getpid(), signal.SIGKILL)
        yield

    return FastAPI(lifespan=lifespan)


def failing() -> FastAPI:
    """Return one that says why it cannot start."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        raise RuntimeError("there is no database")
        yield

    return FastAPI(lifespan=lifespan)


def slow() -> FastAPI:
    """Return one that takes longer to make than the test lets a worker be silent."""
    time.sleep(3)
    return FastAPI()


def waiting() -> FastAPI:
    """Return one whose start waits longer than the test lets a worker be silent."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await asyncio.sleep(4)
        yield

    return FastAPI(lifespan=lifespan)


def standing() -> FastAPI:
    """Return one whose event loop stands still while it starts."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        time.sleep(60)  # noqa: ASYNC251 that is what is wrong with it
        yield

    return FastAPI(lifespan=lifespan)
