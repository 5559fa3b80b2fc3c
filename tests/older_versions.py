"""What a service of an earlier version writes while a newer one has brought the schema up to date."""

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import alembic.command
import sqlalchemy as sa
from alembic.script import ScriptDirectory
from servicekit.database import Database, alembic_config
from sqlalchemy.orm import DeclarativeBase

Row = Mapping[str, Any]


def older_revisions(package: str) -> list[str]:
    """Return every revision but the newest, in their order."""
    scripts = ScriptDirectory(str(files(package) / "migrations"))
    return [script.revision for script in scripts.walk_revisions()][:0:-1]


class OlderVersion:
    """Writes the columns that there were at one revision, and no others, to the newest schema."""

    def __init__(self, database: Database, columns: Mapping[str, frozenset[str]]) -> None:
        self._database = database
        self._columns = columns

    def knows(self, model: type[DeclarativeBase]) -> bool:
        """Tell whether there was such a table."""
        return model.__tablename__ in self._columns

    def of(self, model: type[DeclarativeBase], row: Row) -> Row:
        """Return what of `row` there were columns for."""
        return {name: value for name, value in row.items() if name in self._columns[model.__tablename__]}

    async def insert(self, model: type[DeclarativeBase], *rows: Row) -> None:
        """Store rows, which are given with every column of today."""
        async with self._database.begin() as session:
            await session.execute(sa.insert(self._table(model)), [self.of(model, row) for row in rows])

    async def update(self, model: type[DeclarativeBase], changes: Row) -> None:
        """Change every row of a table."""
        if changes := self.of(model, changes):
            async with self._database.begin() as session:
                await session.execute(sa.update(self._table(model)).values(changes))

    def _table(self, model: type[DeclarativeBase]) -> sa.TableClause:
        """Return a table without today's defaults."""
        today = model.__table__.c
        names = self._columns[model.__tablename__]
        return sa.table(model.__tablename__, *(sa.column(name, today[name].type) for name in sorted(names)))


async def migrated_past(database: Database, package: str, revision: str) -> OlderVersion:
    """Make the schema of `revision`, then that of today, and return a service that knows the first alone."""

    def upgrade_and_read(connection: sa.Connection) -> Mapping[str, frozenset[str]]:
        alembic.command.upgrade(alembic_config(package, connection), revision)
        inspector = sa.inspect(connection)
        return {
            table: frozenset(column["name"] for column in inspector.get_columns(table))
            for table in inspector.get_table_names()
        }

    async with database.engine.begin() as connection:
        columns = await connection.run_sync(upgrade_and_read)
    await database.migrate(package)
    return OlderVersion(database, columns)


async def stored(database: Database, model: type[DeclarativeBase]) -> dict[str, Any]:
    """Return the one row of a table, as this version reads it."""
    async with database.begin() as session:
        row = (await session.scalars(sa.select(model))).one()
        return {column.key: getattr(row, column.key) for column in model.__table__.columns}
