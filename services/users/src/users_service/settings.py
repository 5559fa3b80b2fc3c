"""Configuration of the users service, read once from the environment."""

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt, Secret
from pydantic_settings import SettingsConfigDict
from servicekit.connections import ConnectionSettings
from servicekit.settings import ResourceSettings

from users_service.identifiers import Email, Username
from users_service.passwords import NewPassword

SignUp = Literal["open", "admin"]


class UsersSettings(ResourceSettings, ConnectionSettings):
    """What the users service is told."""

    model_config = SettingsConfigDict(env_prefix="USERS_", frozen=True)

    service = "users"

    database_url: str = Field(
        "sqlite+aiosqlite:///.pinhole/users.db", pattern=r"^(sqlite\+aiosqlite|postgresql\+asyncpg)://"
    )

    migrate_at_start: bool = True
    """Without it the start waits until something else has brought the schema up to date."""

    sign_up: SignUp = "admin"
    """Who creates accounts: everybody, or administrators."""

    require_if_match: bool = False
    """Refuse a change that does not say which version it changes (428)."""

    admin_username: Username = "admin"
    admin_email: Email = "admin@example.com"
    admin_password: Secret[NewPassword] | None = None
    """Of the administrator that is created where there is none."""

    hash_workers: PositiveInt = 2
    """Password hashes computed at once; each takes a core and 19 MiB."""

    hash_queue_size: NonNegativeInt = 64
    """Requests that wait for a hash beyond the running ones; one more is shed with 503."""
