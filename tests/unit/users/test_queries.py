"""Queries that users wait for are answered from an index, on both servers."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import pytest
from servicekit.database import Database, new_id, open_database, utc_now
from sqlalchemy import insert, text
from sqlalchemy.ext.asyncio import AsyncSession
from users_service import accounts
from users_service.tables import Account

from tests.explain import explain, recorded

ROWS = 20_000
Query = Callable[[AsyncSession], Awaitable[object]]


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """As many accounts as make a server prefer an index."""
    async with open_database(database_url) as database:
        await database.migrate("users_service")
        async with database.engine.begin() as connection:
            await connection.execute(insert(Account), [row(number) for number in range(ROWS)])
            await connection.execute(text("ANALYZE"))
        yield database


def row(number: int) -> Mapping[str, object]:
    name, now = f"user{number:06}", utc_now()
    return {
        "id": new_id(),
        "username": name,
        "username_canonical": name,
        "email": f"{name}@example.com",
        "email_canonical": f"{name}@example.com",
        "disabled": False,
        "role_user": True,
        "role_admin": number == 0,
        "created_at": now,
        "updated_at": now,
    }


async def plan_of(database: Database, query: Query) -> str:
    """Run a query and return how the server ran the last of its statements."""
    with recorded(database.engine) as statements:
        async with database.begin() as session:
            await query(session)
    async with database.engine.begin() as connection:
        return await explain(connection, *statements[-1])


QUERIES: dict[str, tuple[Query, str]] = {
    "sign in by name": (lambda session: accounts.find_by_login(session, "user000007"), "username_canonical"),
    "sign in by address": (
        lambda session: accounts.find_by_login(session, "user000007@example.com"),
        "email_canonical",
    ),
    "find by id": (lambda session: session.get(Account, new_id()), "pk_accounts"),
    "first page": (lambda session: accounts.page(session, after=None, limit=50), "pk_accounts"),
    "later page": (lambda session: accounts.page(session, after=new_id(), limit=50), "pk_accounts"),
    "administrators": (accounts.has_administrator, "ix_accounts_administrators"),
}


@pytest.mark.parametrize("name", QUERIES)
async def test_a_query_reads_an_index_and_sorts_nothing(database: Database, name: str) -> None:
    query, index = QUERIES[name]
    plan = await plan_of(database, query)
    # SQLite calls the index of a primary key after its table.
    assert index in plan or index.replace("pk_accounts", "sqlite_autoindex_accounts_") in plan, plan
    for slow in ("Seq Scan", "Sort", "TEMP B-TREE"):
        assert slow not in plan
