"""Configuration of the gateway, read once from the environment."""

from typing import Annotated

from pydantic import PositiveFloat, PositiveInt, StringConstraints
from pydantic_settings import SettingsConfigDict
from servicekit.settings import ServiceSettings

HttpOrigin = Annotated[str, StringConstraints(pattern=r"^http://[^/?#]+$")]
"""Scheme, host and port, with no path."""


class GatewaySettings(ServiceSettings):
    """Where the services are, and how long they are waited for."""

    model_config = SettingsConfigDict(env_prefix="GATEWAY_", frozen=True)

    service = "gateway"

    auth_url: HttpOrigin = "http://127.0.0.1:8001"
    """Where tokens, sessions, clients and keys are asked for."""

    users_url: HttpOrigin = "http://127.0.0.1:8002"
    """Where accounts and their events are asked for."""

    inference_url: HttpOrigin = "http://127.0.0.1:8003"
    """Where all other requests go."""

    max_body_bytes: PositiveInt = 32 * 1024 * 1024
    """Longest body: the largest request of the inference protocol. The services have limits of their own below it."""

    max_connections: PositiveInt = 128
    """Connections to one service; a request beyond them waits `connect_timeout_seconds` for one."""

    connect_timeout_seconds: PositiveFloat = 2.0
    """Longest wait for a connection to a service; then 503."""

    answer_timeout_seconds: PositiveFloat = 60.0
    """Longest silence of a service, before its answer and within it."""

    keep_alive_seconds: PositiveFloat = 4.0
    """How long an idle connection to a service is kept. A service keeps it longer (75 s),
    so that none is closed at the moment of its reuse."""
