"""Configuration that is read once from the environment, from files that it names, or from a mounted folder."""

import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import (
    AfterValidator,
    AliasChoices,
    Field,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    ValidationError,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
LogFormat = Literal["json", "console"]
Sampler = Literal[
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
]

BAD_CONFIGURATION = "bad configuration"
"""The first line of what a service ends with; a line for each bad setting follows."""

_URL = r"^https?://[^/]"
_QUOTED = re.compile(r'"(\w+)"')


class TelemetrySettings(BaseSettings):
    """Where traces go, in the variables of OpenTelemetry's specification. Its SDK reads the others that it has."""

    sdk_disabled: bool = Field(False, validation_alias=AliasChoices("OTEL_SDK_DISABLED", "sdk_disabled"))
    """Whether nothing is traced, whatever the others say."""

    traces_exporter: Literal["otlp", "console", "none"] = Field(
        "otlp", validation_alias=AliasChoices("OTEL_TRACES_EXPORTER", "traces_exporter")
    )
    """How traces are sent: to a receiver, or as JSON to standard output."""

    otlp_endpoint: str | None = Field(
        None, pattern=_URL, validation_alias=AliasChoices("OTEL_EXPORTER_OTLP_ENDPOINT", "otlp_endpoint")
    )
    """The receiver of every signal. Without this and the next nothing is traced."""

    otlp_traces_endpoint: str | None = Field(
        None, pattern=_URL, validation_alias=AliasChoices("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "otlp_traces_endpoint")
    )
    """The receiver of traces, with its path."""

    otlp_protocol: Literal["grpc", "http/protobuf"] = Field(
        "http/protobuf", validation_alias=AliasChoices("OTEL_EXPORTER_OTLP_PROTOCOL", "otlp_protocol")
    )
    """gRPC needs the extra `otlp-grpc`, which the images of auth and users leave out."""

    traces_sampler: Sampler = Field(
        "parentbased_always_on", validation_alias=AliasChoices("OTEL_TRACES_SAMPLER", "traces_sampler")
    )
    """Which traces are kept; with `parentbased_` the caller's `traceparent` decides where there is one."""

    traces_sampler_arg: float = Field(
        1.0, ge=0, le=1, validation_alias=AliasChoices("OTEL_TRACES_SAMPLER_ARG", "traces_sampler_arg")
    )
    """Share of the traces that the samplers with `traceidratio` keep."""

    max_queued_spans: PositiveInt = Field(
        2048, validation_alias=AliasChoices("OTEL_BSP_MAX_QUEUE_SIZE", "max_queued_spans")
    )
    """Spans that wait to be sent; more are dropped, and counted."""

    @field_validator("otlp_protocol")
    @classmethod
    def _is_installed(cls, protocol: str) -> str:
        if protocol == "grpc":
            try:
                import opentelemetry.exporter.otlp.proto.grpc  # noqa: F401
            except ImportError:
                raise ValueError("gRPC is not installed here; expected http/protobuf") from None
        return protocol


class ServiceSettings(TelemetrySettings):
    """What every service is told. A subclass sets `env_prefix` and `service`.

    Each variable may also be given as `<VARIABLE>_FILE`, a file that holds the value,
    or as a file of that name in the folder `<PREFIX>SECRETS_DIR`.
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    service: ClassVar[str]
    """Short name of the service: in logs, in metrics and in the path of its OpenAPI document."""

    log_level: LogLevel = Field("INFO", validation_alias=AliasChoices("LOG_LEVEL", "log_level"))
    """The least severe events that are logged; the audit log is in any case."""

    log_format: LogFormat = Field("json", validation_alias=AliasChoices("LOG_FORMAT", "log_format"))
    """A line of JSON an event, or lines for people."""

    log_levels_file: Path = Field(
        default_factory=lambda: Path(tempfile.gettempdir(), "pinhole-log-levels"),
        validation_alias=AliasChoices("LOG_LEVELS_FILE", "log_levels_file"),
    )
    """Where `pinhole-log-level` writes other levels, for some minutes."""

    slow_request_seconds: PositiveFloat = Field(
        1.0, validation_alias=AliasChoices("SLOW_REQUEST_SECONDS", "slow_request_seconds")
    )
    """A request that takes as long is logged as a warning, with its stages."""

    body_timeout_seconds: PositiveFloat = 60.0
    """Longest time for a body to come; after that 408."""

    workers: PositiveInt = Field(1, validation_alias=AliasChoices("WORKERS", "workers"))
    """Processes of gunicorn that serve. One is best where replicas can be had instead."""

    workers_dir: Path | None = Field(None, validation_alias=AliasChoices("WORKERS_DIR", "workers_dir"))
    """A folder that several workers share. `servicekit.gunicorn` makes it and sets this."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources: arguments, variables, files that variables name, the mounted folder."""
        folder = os.environ.get(f"{cls.model_config['env_prefix']}SECRETS_DIR")
        mounted = (SecretsSettingsSource(settings_cls, secrets_dir=folder),) if folder else ()
        return init_settings, env_settings, _NamedFiles(settings_cls), *mounted


def _is_of_redis(url: SecretStr) -> SecretStr:
    if not url.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("expected redis://, rediss:// or unix://")
    return url


RedisUrl = Annotated[SecretStr, AfterValidator(_is_of_redis)]


class RateLimitSettings(ServiceSettings):
    """Where requests are counted."""

    rate_limit_redis_url: RedisUrl | None = None
    """`redis://`, `rediss://` or `unix://`: all replicas count together. Without it each counts by itself."""


class TokenSettings(ServiceSettings):
    """Whose access tokens a service takes."""

    issuer: str = "http://localhost:8000"
    """`iss` of every token: the public origin."""

    audience: str = "pinhole"
    """`aud` of every token."""


class ResourceSettings(TokenSettings):
    """A service that verifies the tokens which auth has signed."""

    auth_url: str = "http://127.0.0.1:8001"
    """Where this service reaches auth, for its keys."""

    jwks_refresh_seconds: PositiveFloat = 60.0
    """How often the keys are fetched when nothing else asks for them."""


@dataclass(frozen=True)
class _Unreadable:
    """Stands for what cannot be read: no field takes it, and the other settings are looked at all the same."""

    reason: str


class _NamedFiles(PydanticBaseSettingsSource):
    """Reads a field's value from the file that `<VARIABLE>_FILE` names."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        variable = f"{variable_name(self.settings_cls, field_name)}_FILE"
        path = os.environ.get(variable)
        if path is None:
            return None, field_name, False
        try:
            return Path(path).read_text(encoding="utf-8").strip(), field_name, False
        except OSError as error:
            return _Unreadable(f"{variable}: cannot read {path}: {error.strerror}"), field_name, False
        except UnicodeDecodeError:
            return _Unreadable(f"{variable}: {path} is not UTF-8"), field_name, False

    def __call__(self) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name, field in self.settings_cls.model_fields.items():
            value, key, is_complex = self.get_field_value(field, name)
            if isinstance(value, _Unreadable):
                values[key] = value
            elif value is not None:
                values[key] = self.prepare_field_value(name, field, value, is_complex)
        return values


S = TypeVar("S", bound=ServiceSettings)


def load_settings(cls: type[S]) -> S:
    """Read `cls` from the environment.

    Raises:
        SystemExit: a value is missing or bad; the message has a line for each, with the
            variable and what was expected, and never the value.
    """
    try:
        return cls()
    except ValidationError as error:
        lines = dict.fromkeys(_sentence(cls, e) for e in error.errors(include_url=False, include_context=False))
        raise SystemExit("\n  ".join((BAD_CONFIGURATION, *lines))) from None
    except SettingsError as error:  # a file of the mounted folder, or what should be JSON
        field = _QUOTED.search(str(error))
        variable = f"{variable_name(cls, field[1])}: " if field else ""
        raise SystemExit(f"{BAD_CONFIGURATION}\n  {variable}{error}") from None


def _sentence(cls: type[BaseSettings], error: ErrorDetails) -> str:
    """Say which variable is wrong, where in its value (`AUTH_CLIENTS.0.name`), and what was expected.

    Where settings do not go together, what was expected names them.
    """
    if isinstance(error["input"], _Unreadable):
        return error["input"].reason
    expected = error["msg"].removeprefix("Value error, ")
    if not error["loc"]:
        return expected
    where = (variable_name(cls, str(error["loc"][0])), *(str(part) for part in error["loc"][1:]))
    return f"{'.'.join(where)}: {expected}"


def variable_name(cls: type[BaseSettings], field_name: str) -> str:
    """Return the environment variable of a field, as users write it."""
    field = cls.model_fields.get(field_name)
    if field is not None and isinstance(field.validation_alias, AliasChoices):
        return str(field.validation_alias.choices[0])
    if field is None and field_name.isupper():
        return field_name
    return f"{cls.model_config.get('env_prefix', '')}{field_name}".upper()
