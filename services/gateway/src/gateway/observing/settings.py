"""Configuration of the local view."""

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field, PositiveFloat, PositiveInt
from pydantic_settings import SettingsConfigDict
from servicekit.settings import ServiceSettings


class ObserverSettings(ServiceSettings):
    """Whose metrics are looked at, and how much is kept."""

    model_config = SettingsConfigDict(env_prefix="OBSERVER_", frozen=True)

    service: ClassVar[str] = "observer"

    services: Mapping[str, str] = Field(default_factory=dict)
    """Where each service is, by its name. In a variable: JSON."""

    scrape_seconds: PositiveFloat = 2.0
    kept_scrapes: PositiveInt = 300
    kept_traces: PositiveInt = 200
    kept_spans: PositiveInt = 500
    """Of one trace."""

    max_body_bytes: PositiveInt = 16 * 1024 * 1024
