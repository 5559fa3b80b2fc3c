"""Applications that never start, or take long."""

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
