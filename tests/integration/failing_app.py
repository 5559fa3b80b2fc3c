"""Applications that never start."""

import os
import signal
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
