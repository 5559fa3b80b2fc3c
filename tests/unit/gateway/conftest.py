"""A gateway on a real port in front of three stand-in services."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
import structlog
from gateway.main import create_app
from gateway.settings import GatewaySettings

from tests.unit.gateway.serving import StandInService, serve

MAX_BODY_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class Site:
    """The gateway's origin, and the services behind it by name."""

    origin: str
    services: dict[str, StandInService]


@pytest.fixture(scope="module", autouse=True)
def quiet_logs() -> Iterator[None]:
    """Keep the access log of the servers in threads out of what other tests print."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    yield
    structlog.configure(**before)


@pytest.fixture(scope="module")
def shared_site() -> Iterator[Site]:
    """One site for all tests: it keeps nothing of a request."""
    services = {name: StandInService(name) for name in ("auth", "users", "inference")}
    with ExitStack() as stack:
        auth, users, inference = (stack.enter_context(serve(service)) for service in services.values())
        settings = GatewaySettings(
            auth_url=auth, users_url=users, inference_url=inference, max_body_bytes=MAX_BODY_BYTES
        )
        yield Site(stack.enter_context(serve(create_app(settings))), services)


@pytest.fixture
def site(shared_site: Site) -> Site:
    """Return the site with the events of its services not set."""
    for service in shared_site.services.values():
        for event in (service.received, service.may_go_on, service.saw_disconnect):
            event.clear()
    return shared_site
