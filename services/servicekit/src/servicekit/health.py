"""Probes: whether this process lives, and whether it can answer. They read state and call nobody."""

import math
import time
from collections.abc import Callable

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from servicekit.problem import ServiceUnavailable, problem_response


class Readiness:
    """What this process needs before it can answer, kept up to date by those who know."""

    def __init__(self, *needs: str) -> None:
        self._missing = dict.fromkeys(needs, "not there yet")
        self._ends_at = math.inf

    def is_met(self, need: str) -> None:
        """Record that `need` is there."""
        self._missing.pop(need, None)

    def is_missing(self, need: str, reason: str) -> None:
        """Record that `need` is not there, and why."""
        self._missing[need] = reason

    def end(self, *, within_seconds: float) -> None:
        """Record that this process has been told to end: it finishes what it has, and is not ready any more."""
        self._ends_at = min(self._ends_at, time.monotonic() + within_seconds)

    @property
    def is_ending(self) -> bool:
        """Tell whether this process has been told to end."""
        return self._ends_at < math.inf

    @property
    def seconds_left(self) -> float:
        """Return how long this process may still take; infinite where nobody has told it to end."""
        return max(0.0, self._ends_at - time.monotonic())

    @property
    def missing(self) -> dict[str, str]:
        """Map each need that is not met to its reason."""
        return {**self._missing, **({"serving": "the service is shutting down"} if self.is_ending else {})}


def health_router(readiness: Readiness, stuck: Callable[[], str | None] = lambda: None) -> APIRouter:
    """Return `/livez` and `/readyz`. `stuck` says why this process cannot go on, or None."""
    router = APIRouter(include_in_schema=False)

    @router.get("/livez")
    async def livez(request: Request) -> Response:
        if reason := stuck():
            return problem_response(ServiceUnavailable(reason), request)
        return PlainTextResponse("ok\n")

    @router.get("/readyz")
    async def readyz(request: Request) -> Response:
        if missing := readiness.missing:
            reasons = "; ".join(f"{need}: {reason}" for need, reason in missing.items())
            return problem_response(ServiceUnavailable(reasons), request)
        return JSONResponse({"status": "ready"})

    return router
