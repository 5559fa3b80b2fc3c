"""The schema: what the revisions make is what the tables say, forward and back."""

import alembic.command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from auth_service.tables import Base
from servicekit.database import alembic_config, open_database
from sqlalchemy import Connection, inspect


def differences(connection: Connection) -> list[object]:
    context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
    return list(compare_metadata(context, Base.metadata))


def table_names(connection: Connection) -> list[str]:
    return inspect(connection).get_table_names()


async def test_the_revisions_make_the_tables(empty_database_url: str) -> None:
    async with open_database(empty_database_url) as database:
        await database.migrate("auth_service")
        async with database.engine.connect() as connection:
            assert await connection.run_sync(differences) == []
            assert {"signing_keys", "sessions", "refresh_tokens", "clients", "client_secrets"} < set(
                await connection.run_sync(table_names)
            )


async def test_the_revisions_can_be_taken_back_and_made_again(empty_database_url: str) -> None:
    def downgrade(connection: Connection) -> None:
        alembic.command.downgrade(alembic_config("auth_service", connection), "base")

    async with open_database(empty_database_url) as database:
        await database.migrate("auth_service")
        async with database.engine.begin() as connection:
            await connection.run_sync(downgrade)
            assert await connection.run_sync(table_names) == ["alembic_version"]
        await database.migrate("auth_service")
        async with database.engine.connect() as connection:
            assert await connection.run_sync(differences) == []
