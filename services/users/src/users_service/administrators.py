"""The first administrator, who lets everybody else in."""

from servicekit.database import Database
from servicekit.logs import get_logger

from users_service import accounts
from users_service.errors import AccountExists
from users_service.passwords import Passwords
from users_service.settings import UsersSettings

log = get_logger(__name__)


async def create_first_administrator(database: Database, passwords: Passwords, settings: UsersSettings) -> None:
    """Create the administrator that the settings describe, where no account is one."""
    async with database.begin() as session:
        if await accounts.has_administrator(session):
            return
    if settings.admin_password is None:
        log.warning("no_administrator", hint="set USERS_ADMIN_PASSWORD or USERS_ADMIN_PASSWORD_FILE and start again")
        return
    password_hash = await passwords.hash(settings.admin_password.get_secret_value())
    fields: accounts.Changes = {
        "username": settings.admin_username,
        "email": settings.admin_email,
        "roles": ["user", "admin"],
    }
    try:
        async with database.begin() as session:
            await accounts.create(session, fields, password_hash=password_hash, actor=None)
    except AccountExists as error:
        async with database.begin() as session:
            if await accounts.has_administrator(session):
                return  # another replica was faster
        log.warning("no_administrator", hint="set USERS_ADMIN_USERNAME and USERS_ADMIN_EMAIL", reason=error.detail)
