"""The schema: what the migrations make is what the tables say, forward and back."""

from collections.abc import AsyncIterator

import alembic.command
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from servicekit.database import Database, alembic_config, open_database
from sqlalchemy import Connection, inspect
from users_service.tables import Base

PACKAGE = "users_service"


@pytest.fixture
async def database(empty_database_url: str) -> AsyncIterator[Database]:
    async with open_database(empty_database_url) as database:
        await database.migrate(PACKAGE)
        yield database


def differences(connection: Connection) -> list[object]:
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    return list(compare_metadata(context, Base.metadata))


async def test_migrations_and_tables_agree(database: Database) -> None:
    async with database.engine.begin() as connection:
        assert await connection.run_sync(differences) == []


async def test_migrating_again_changes_nothing(database: Database) -> None:
    await database.migrate(PACKAGE)
    async with database.engine.begin() as connection:
        assert await connection.run_sync(differences) == []


async def test_the_schema_can_be_taken_back_and_made_again(database: Database) -> None:
    def downgrade(connection: Connection) -> list[str]:
        alembic.command.downgrade(alembic_config(PACKAGE, connection), "base")
        return inspect(connection).get_table_names()

    async with database.engine.begin() as connection:
        assert await connection.run_sync(downgrade) == ["alembic_version"]
    assert not await database.is_migrated(PACKAGE)
    await database.migrate(PACKAGE)
    assert await database.is_migrated(PACKAGE)
