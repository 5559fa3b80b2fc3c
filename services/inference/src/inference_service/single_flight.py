"""Computes once what several ask for at the same time."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Flight(Generic[T]):
    """One computation, for all who join it. It ends with its work, or when the last of them has left."""

    def __init__(self, work: Coroutine[Any, Any, T], land: Callable[[], object]) -> None:
        self._task = asyncio.create_task(work)
        self._task.add_done_callback(lambda _: land())
        self._land = land
        self._passengers = 0

    async def join(self) -> T:
        """Return what the work returns, or raise what it raises. Who leaves does not stop it for the others."""
        self._passengers += 1
        try:
            return await asyncio.shield(self._task)
        finally:
            self._passengers -= 1
            if not self._passengers and not self._task.done():
                self._land()  # now, not when it has ended: nobody is to join what is given up
                self._task.cancel()


class SingleFlight(Generic[T]):
    """The flights by what they compute."""

    def __init__(self) -> None:
        self._flights: dict[str, Flight[T]] = {}

    def get(self, key: str) -> Flight[T] | None:
        """Return the flight that computes `key` now."""
        return self._flights.get(key)

    def start(self, key: str, work: Coroutine[Any, Any, T]) -> Flight[T]:
        """Start to compute `key`, which nobody does now. To be joined before anything else is awaited."""

        def land() -> None:
            if self._flights.get(key) is flight:
                del self._flights[key]

        flight = self._flights[key] = Flight(work, land)
        return flight
