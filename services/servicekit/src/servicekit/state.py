"""What the lifespan has opened, for the routes that use it."""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Request


def of_state(name: str) -> Callable[[Request], Awaitable[Any]]:
    """Return the dependency that gives a route what the lifespan has opened under `name`."""

    async def get(request: Request) -> Any:
        return getattr(request.state, name)

    return get
