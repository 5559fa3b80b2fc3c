"""Queries that users wait for are answered from an index, on both servers."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import pytest
from servicekit.database import Database, new_id, open_database, utc_now
from sqlalchemy import insert, text
from sqlalchemy.ext.asyncio import AsyncSession
from users_service import accounts, listing
from users_service.listing import Filters
from users_service.tables import Account

from tests.explain import explain, recorded
from tests.unit.users.driver import NOBODY

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
        "full_name": f"{name} of somewhere",
        "full_name_canonical": f"{name} of somewhere",
        "disabled": number % 1000 == 0,
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


def page(after: str | None = None, **filters: Any) -> Query:
    """Return the query of a page."""
    return lambda session: listing.read_page(session, Filters(**filters), after=after, limit=50)


QUERIES: dict[str, tuple[Query, str]] = {
    "sign in by name": (lambda session: accounts.find_by_login(session, "user000007"), "username_canonical"),
    "sign in by address": (
        lambda session: accounts.find_by_login(session, "user000007@example.com"),
        "email_canonical",
    ),
    "find by id": (lambda session: session.get(Account, new_id()), "pk_accounts"),
    "first page": (page(), "pk_accounts"),
    "later page": (page(after=NOBODY), "pk_accounts"),
    "from the newest": (page(sort="-created"), "pk_accounts"),
    "by name": (page(sort="username", after="user000007"), "username_canonical"),
    "by name, reversed": (page(sort="-username", after="user000007"), "username_canonical"),
    "by address": (page(sort="email", after="user000007"), "email_canonical"),
    "name prefix": (page(username="user0001"), "username_canonical"),
    "name prefix, later": (page(username="user", after="user010000"), "username_canonical"),
    "address prefix": (page(email="user0001"), "email_canonical"),
    "disabled": (page(disabled=True), "ix_accounts_disabled"),
    "admins": (page(role="admin"), "ix_accounts_administrators"),
    "enabled users": (page(disabled=False, role="user"), "pk_accounts"),
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


async def test_a_search_reads_an_index_for_each_of_the_names(database: Database) -> None:
    plan = await plan_of(database, page(q="user00007"))
    assert "BitmapOr" in plan or "MULTI-INDEX OR" in plan
    for index in ("username_canonical", "email_canonical", "full_name_canonical"):
        assert index in plan, plan
    assert "Seq Scan" not in plan
    assert "SCAN accounts" not in plan
