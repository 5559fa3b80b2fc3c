"""The database of a service for whoever works beside it: none is made where there is none."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from asyncpg import PostgresError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from servicekit.connections import ConnectionSettings
from servicekit.database import Database, open_database
from servicekit.settings import variable_name


class NoDatabase(Exception):
    """The text says which database was looked for, and why it cannot be had. It holds no password."""


@contextlib.asynccontextmanager
async def open_existing_database(settings: ConnectionSettings) -> AsyncIterator[Database]:
    """Yield the database that the settings name, which answers.

    Raises:
        NoDatabase: there is no such SQLite file, or the server cannot be reached.
    """
    variable = variable_name(type(settings), "database_url")
    parsed = make_url(settings.database_url)
    if parsed.get_backend_name() == "sqlite":
        _require_file(Path(parsed.database or ""), variable)
    async with open_database(settings.database_url, settings.connection_limits) as database:
        try:
            async with database.engine.connect():
                pass
        except (OSError, SQLAlchemyError, PostgresError) as error:
            where = parsed.set(query={}).render_as_string()
            reason = str(getattr(error, "orig", None) or error) or type(error).__name__
            raise NoDatabase(f"cannot reach the database {where} of {variable}: {reason}") from None
        yield database


def _require_file(path: Path, variable: str) -> None:
    if not path.is_file():
        raise NoDatabase(f"there is no database {path.absolute()}: name that of the service with {variable}")
