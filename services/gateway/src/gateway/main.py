"""The gateway's application: one origin in front of the three services."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from servicekit.app import build_app
from servicekit.health import Readiness
from servicekit.metrics import new_registry
from servicekit.starting import settings_at_start
from servicekit.telemetry import Telemetry

from gateway.proxy import State
from gateway.routes import PROBES, error_response, proxy_routes
from gateway.settings import GatewaySettings
from gateway.upstream import open_upstream


def create_app(settings: GatewaySettings | None = None) -> FastAPI:
    """Build the application; without `settings` they are read from the environment."""
    if settings is None:
        settings = settings_at_start(GatewaySettings)
    registry = new_registry()
    app = build_app(
        settings,
        title="Pinhole gateway",
        description="Passes each path to the service that answers it.",
        version=version("pinhole-gateway"),
        lifespan=_lifespan(settings),
        routers=[],
        readiness=Readiness(),
        registry=registry,
        telemetry=Telemetry(settings, version=version("pinhole-gateway"), registry=registry),
        error_response=error_response,
        probes=PROBES,
        max_body_bytes=None,  # the proxy counts, and refuses in the words of each path
    )
    app.router.routes.extend(proxy_routes())
    return app


def _lifespan(settings: GatewaySettings) -> Callable[[FastAPI], AbstractAsyncContextManager[State]]:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[State]:
        urls = {"auth": settings.auth_url, "users": settings.users_url, "inference": settings.inference_url}
        async with AsyncExitStack() as stack:
            upstreams = {
                name: await stack.enter_async_context(open_upstream(url, settings)) for name, url in urls.items()
            }
            yield State(settings=settings, upstreams=upstreams)

    return lifespan
