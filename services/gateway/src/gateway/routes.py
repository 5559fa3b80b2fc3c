"""Which service answers which path. In a cluster the Ingress holds the same table."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from fastapi import Request, Response
from servicekit.problem import ErrorResponse, Problem, problem_response
from starlette.routing import Match, Route
from starlette.types import Scope

from gateway.errors import inference_protocol_error_response, oauth_error_response
from gateway.proxy import Proxy


@dataclass(frozen=True, slots=True)
class Prefix:
    """A path and all below it, in whole segments; `is_exact` leaves out what is below."""

    path: str
    service: str
    is_exact: bool = False
    error_response: ErrorResponse = problem_response


PREFIXES = (
    Prefix("/predict", "inference"),
    Prefix("/token", "auth", error_response=oauth_error_response),
    Prefix("/users", "users"),
    Prefix("/events", "users"),
    Prefix("/", "inference", is_exact=True),
    Prefix("/static", "inference"),
    Prefix("/explain", "inference"),
    Prefix("/models", "inference"),
    Prefix("/v2", "inference", error_response=inference_protocol_error_response),
    Prefix("/oauth2", "auth", error_response=oauth_error_response),
    Prefix("/sessions", "auth"),
    Prefix("/clients", "auth"),
    Prefix("/.well-known", "auth"),
    Prefix("/docs", "inference"),
    Prefix("/openapi/auth.json", "auth", is_exact=True),
    Prefix("/openapi/users.json", "users", is_exact=True),
    Prefix("/openapi/inference.json", "inference", is_exact=True),
)
"""No prefix lies below another. `/livez`, `/readyz`, `/metrics` and `/internal` are not among them."""

PROBES = re.compile(r"/v2/health/(live|ready)|/v2/models/[^/]+(/versions/[^/]+)?/ready")
"""Passed on, and neither traced nor logged, as inference does not."""


def error_response(problem: Problem, request: Request) -> Response:
    """Render what the gateway itself has to say about a path in the words of that path."""
    path = request.url.path
    for prefix in PREFIXES:
        if path == prefix.path or (not prefix.is_exact and path.startswith(f"{prefix.path}/")):
            return prefix.error_response(problem, request)
    return problem_response(problem, request)


class ProxyRoute(Route):
    """A path that is passed on, whatever the method."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match as Starlette does, and leave the route in the scope, as FastAPI does: it labels the metrics."""
        match, child_scope = super().matches(scope)
        return match, {**child_scope, "route": self}


def proxy_routes() -> Iterator[Route]:
    """Yield a route for each prefix, and one for what is below it."""
    for prefix in PREFIXES:
        proxy = Proxy(prefix.service, prefix.error_response)
        yield ProxyRoute(prefix.path, proxy)
        if not prefix.is_exact:
            yield ProxyRoute(prefix.path + "/{rest:path}", proxy)
