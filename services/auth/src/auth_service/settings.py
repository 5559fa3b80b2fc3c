"""Configuration of the auth service, read once from the environment."""

from datetime import timedelta
from typing import Annotated, Any, Self

import yaml
from cryptography.fernet import Fernet
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    FilePath,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Secret,
    field_validator,
    model_validator,
)
from pydantic_settings import NoDecode, SettingsConfigDict
from servicekit.connections import ConnectionSettings
from servicekit.settings import RateLimitSettings, TokenSettings
from servicekit.token_form import Algorithm

from auth_service.clients import ConfiguredClient
from auth_service.sessions import Lifetimes


def _read_clients(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return yaml.safe_load(value) or ()
    except yaml.YAMLError:
        raise ValueError("expected a list of clients in YAML or JSON") from None


def _split(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _is_fernet_key(key: str) -> str:
    try:
        Fernet(key)
    except ValueError:
        raise ValueError("expected 32 bytes in base64url, as Fernet.generate_key() makes") from None
    return key


FernetKey = Annotated[str, AfterValidator(_is_fernet_key)]


class AuthSettings(TokenSettings, ConnectionSettings, RateLimitSettings):
    """What the auth service is told."""

    model_config = SettingsConfigDict(env_prefix="AUTH_", frozen=True)
    service = "auth"

    database_url: str = Field(
        "sqlite+aiosqlite:///.pinhole/auth.db", pattern=r"^(sqlite\+aiosqlite|postgresql\+asyncpg)://"
    )
    """SQLite on a laptop; PostgreSQL, `postgresql+asyncpg://`, where there is more than one replica."""

    users_url: str = Field("http://127.0.0.1:8002", pattern=r"^https?://[^/]")
    """Where this service reaches users, who knows the passwords."""

    users_timeout_seconds: PositiveFloat = 5.0
    """Longest wait for the whole of an answer of users."""

    clients: Annotated[tuple[ConfiguredClient, ...], NoDecode, BeforeValidator(_read_clients)] = ()
    """OAuth clients, as YAML or JSON; in a file by `AUTH_CLIENTS_FILE`. Others are registered over HTTP."""

    cluster_issuer: str | None = None
    """`iss` of a Kubernetes cluster's ServiceAccount tokens, which clients may prove themselves with."""

    cluster_jwks_url: str = Field("https://kubernetes.default.svc/openid/v1/jwks", pattern=r"^https?://[^/]")
    """Where the keys of those tokens are."""

    cluster_ca_file: FilePath | None = None
    """The CA of that address, where the system does not know it."""

    cluster_token_file: FilePath | None = None
    """The token to ask with, where that is needed; read anew each time."""

    password_grant: bool = True
    """Off where nobody shall type a password into a client; the web page needs it."""

    token_requests_per_minute: NonNegativeInt = 600
    """Requests for tokens, and unproven ones for revocation or introspection, of one address; 0 is no limit."""

    signing_algorithm: Algorithm = "RS256"
    """Of the keys that are made from now on; those of another one retire."""

    key_publish_seconds: NonNegativeInt = 600
    """A new key is published for so long before it signs: longer than others keep the key set."""

    key_rotation_days: NonNegativeFloat = 90.0
    """A new key is made when the newest one is so old; 0 leaves that to `pinhole-auth rotate-keys`."""

    key_encryption_keys: Secret[Annotated[tuple[FernetKey, ...], BeforeValidator(_split)]] = Field(
        default_factory=lambda: Secret(())
    )
    """Fernet keys, with commas between them, that signing keys are sealed with at rest: the first seals, each opens."""

    access_token_seconds: PositiveInt = 15 * 60
    """How long an access token is good, unless its session ends before."""

    refresh_idle_seconds: PositiveInt = 14 * 24 * 3600
    """A session that is not refreshed for so long is over."""

    refresh_absolute_seconds: PositiveInt = 90 * 24 * 3600
    """A session is over so long after its sign-in, however much it is used."""

    refresh_grace_seconds: NonNegativeInt = 30
    """For so long may the previous refresh token be sent again, by a client that lost the answer."""

    @field_validator("clients")
    @classmethod
    def _no_two_are_one(cls, clients: tuple[ConfiguredClient, ...]) -> tuple[ConfiguredClient, ...]:
        if len({client.id for client in clients}) < len(clients):
            raise ValueError("expected each id once")
        accounts = [client.service_account for client in clients if client.service_account is not None]
        if len(set(accounts)) < len(accounts):
            raise ValueError("expected each ServiceAccount once")
        return clients

    @property
    def lifetimes(self) -> Lifetimes:
        """What `Sessions` takes."""
        return Lifetimes(
            access_token=timedelta(seconds=self.access_token_seconds),
            idle=timedelta(seconds=self.refresh_idle_seconds),
            absolute=timedelta(seconds=self.refresh_absolute_seconds),
            grace=timedelta(seconds=self.refresh_grace_seconds),
        )

    @model_validator(mode="after")
    def _a_session_outlives_its_access_tokens(self) -> Self:
        if not self.access_token_seconds <= self.refresh_idle_seconds <= self.refresh_absolute_seconds:
            raise ValueError(
                "expected AUTH_ACCESS_TOKEN_SECONDS <= AUTH_REFRESH_IDLE_SECONDS <= AUTH_REFRESH_ABSOLUTE_SECONDS"
            )
        return self
