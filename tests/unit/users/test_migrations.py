"""The schema: what the migrations make is what the tables say, forward and back."""

from collections.abc import AsyncIterator, Callable

import alembic.command
import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from servicekit.database import Database, alembic_config, open_database
from sqlalchemy import Connection, delete, inspect, select, text
from users_service.tables import Account, Base

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


async def test_full_names_from_before_are_found(empty_database_url: str) -> None:
    async with open_database(empty_database_url) as database:
        await database.migrate(PACKAGE)
        async with database.begin() as session:
            session.add_all(
                Account(username=f"user{number}", email=f"{number}@example.com", full_name=name, roles=["user"])
                for number, name in enumerate(["Ådá King", None, "Straße"])
            )

        def take_back_and_make_again(connection: Connection) -> None:
            alembic.command.downgrade(alembic_config(PACKAGE, connection), "0006")
            alembic.command.upgrade(alembic_config(PACKAGE, connection), "head")

        async with database.engine.begin() as connection:
            await connection.run_sync(take_back_and_make_again)
        async with database.begin() as session:
            query = select(Account.full_name_canonical).order_by(Account.username_canonical)
            assert (await session.scalars(query)).all() == ["ådá king", None, "strasse"]


async def test_full_names_that_an_older_version_changed_meanwhile_are_found(database: Database) -> None:
    async with database.begin() as session:
        session.add(Account(username="ada", email="ada@example.com", full_name="Ada King", roles=["user"]))

    def change_before_it_is_noticed(connection: Connection) -> None:
        alembic.command.downgrade(alembic_config(PACKAGE, connection), "0007")
        connection.execute(text("UPDATE accounts SET full_name = 'Ada Byron'"))
        alembic.command.upgrade(alembic_config(PACKAGE, connection), "head")

    async with database.engine.begin() as connection:
        await connection.run_sync(change_before_it_is_noticed)
    async with database.begin() as session:
        assert (await session.scalars(select(Account.full_name_canonical))).all() == ["ada byron"]


async def test_addresses_from_before_are_found_and_those_that_meet_on_the_way_back_stay(
    empty_database_url: str,
) -> None:
    emails = ["Straße@straße.de", "ada@example.com", "jöhn@example.com", "strasse@strasse.de"]

    async with open_database(empty_database_url) as database:
        await database.migrate(PACKAGE)
        async with database.begin() as session:
            session.add_all(
                Account(username=f"user{number}", email=email, roles=["user"]) for number, email in enumerate(emails)
            )

        async def canonical() -> list[str]:
            async with database.begin() as session:
                query = select(Account.email_canonical).order_by(Account.username_canonical)
                return [*(await session.scalars(query)).all()]

        async def move(command: Callable[[Config, str], None], revision: str) -> list[str]:
            async with database.engine.begin() as connection:
                await connection.run_sync(lambda sync: command(alembic_config(PACKAGE, sync), revision))
            return await canonical()

        today = [email.lower() for email in emails]
        assert await canonical() == today
        assert await move(alembic.command.downgrade, "0009") == today
        async with database.begin() as session:
            await session.execute(delete(Account).where(Account.username == "user3"))
        assert await move(alembic.command.upgrade, "head") == today[:3]
        assert await move(alembic.command.downgrade, "0009") == ["strasse@strasse.de", *today[1:3]]
        assert await move(alembic.command.upgrade, "head") == today[:3]


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
