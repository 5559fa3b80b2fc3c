"""Configuration of the users service, read once from the environment."""

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt, Secret, ValidationInfo, field_validator
from pydantic_settings import SettingsConfigDict
from servicekit.connections import ConnectionSettings
from servicekit.settings import RateLimitSettings, ResourceSettings

from users_service.identifiers import Email, Username
from users_service.passwords import NewPassword
from users_service.strength import MIN_SCORE, find_weakness

SignUp = Literal["open", "admin"]


class UsersSettings(ResourceSettings, ConnectionSettings, RateLimitSettings):
    """What the users service is told."""

    model_config = SettingsConfigDict(env_prefix="USERS_", frozen=True)

    service = "users"

    database_url: str = Field(
        "sqlite+aiosqlite:///.pinhole/users.db", pattern=r"^(sqlite\+aiosqlite|postgresql\+asyncpg)://"
    )
    """SQLite on a laptop; PostgreSQL, `postgresql+asyncpg://`, where there is more than one replica."""

    sign_up: SignUp = "admin"
    """Who creates accounts: everybody, or administrators."""

    sign_ups_per_hour: NonNegativeInt = 100
    """Accounts that one address may create where sign-up is open, tried ones included; 0 is no limit."""

    require_if_match: bool = False
    """Refuse a change that does not say which version it changes (428)."""

    password_min_score: int = Field(MIN_SCORE, ge=0, le=4)
    """How hard to guess a new password has to be, as zxcvbn counts; 0 takes each of 8 characters."""

    admin_username: Username = "admin"
    """Of the administrator that is created where there is none, and a password is given."""

    admin_email: Email = "admin@example.com"
    """The address of that administrator."""

    admin_password: Secret[NewPassword] | None = None
    """The first password of that administrator."""

    attempts_per_name_and_address: PositiveInt = 10
    """Wrong passwords for one name from one address before the next has to wait: 30 s, then longer, up to 15 min."""

    attempts_per_address: PositiveInt = 100
    """The same for one address and every name; 1 s, up to 30 s. Addresses where the name is known are not held up."""

    attempts_per_name: PositiveInt = 50
    """The same for one name and every address; 1 s, up to 30 s. Addresses where the name is known are not held up."""

    hash_workers: PositiveInt = 2
    """Password hashes computed at once; each takes a core and 19 MiB."""

    hash_queue_size: NonNegativeInt = 64
    """Requests that wait for a hash beyond the running ones; one more is shed with 503."""

    @field_validator("admin_password")
    @classmethod
    def _is_strong(cls, password: Secret[str] | None, info: ValidationInfo) -> Secret[str] | None:
        about = (info.data.get("admin_username"), info.data.get("admin_email"))
        min_score = info.data.get("password_min_score", MIN_SCORE)
        if password and (weakness := find_weakness(password.get_secret_value(), about, min_score=min_score)):
            raise ValueError(weakness)
        return password
