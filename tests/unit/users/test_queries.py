"""Queries that users wait for are answered from an index, on both servers."""

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from servicekit.database import Database, new_id, open_database, utc_now
from sqlalchemy import insert, text
from sqlalchemy.ext.asyncio import AsyncSession
from users_service import accounts, attempts, events, idempotency, listing
from users_service.listing import Filters
from users_service.tables import Account, AttemptCounter, Base, Event, IdempotencyKey

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
        "full_name": f"{name} of somewhere" if number % 2 else None,
        "full_name_canonical": f"{name} of somewhere" if number % 2 else None,
        "disabled": number % 1000 == 0,
        "role_user": True,
        "role_admin": number == 0,
        "created_at": now,
        "updated_at": now,
    }


async def plan_of(database: Database, query: Query, *, fragment: str = "") -> str:
    """Run a query and return how the server ran the last of its statements, or the last with a `fragment` in it."""
    with recorded(database.engine) as statements:
        async with database.begin() as session:
            await query(session)
    (*_, statement) = (statement for statement in statements if fragment in statement[0])
    async with database.engine.begin() as connection:
        return await explain(connection, *statement)


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
    "admins by name": (page(role="admin", sort="username"), "ix_accounts_administrators"),
    "disabled by name": (page(disabled=True, sort="username"), "ix_accounts_disabled"),
    "enabled users": (page(disabled=False, role="user"), "pk_accounts"),
    "administrators": (accounts.has_administrator, "ix_accounts_administrators"),
}
SORTED = {"admins by name", "disabled by name"}
"""Their filters leave few accounts, which are put into another order than that of the index."""


@pytest.mark.parametrize("name", QUERIES)
async def test_a_query_reads_an_index_and_sorts_nothing(database: Database, name: str) -> None:
    query, index = QUERIES[name]
    plan = await plan_of(database, query)
    # SQLite calls the index of a primary key after its table.
    assert index in plan or index.replace("pk_accounts", "sqlite_autoindex_accounts_") in plan, plan
    for slow in ("Seq Scan",) if name in SORTED else ("Seq Scan", "Sort", "TEMP B-TREE"):
        assert slow not in plan, plan


async def test_a_search_reads_an_index_for_each_of_the_names(database: Database) -> None:
    plan = await plan_of(database, page(q="user00007"))
    assert "BitmapOr" in plan or "MULTI-INDEX OR" in plan
    for index in ("username_canonical", "email_canonical", "full_name_canonical"):
        assert index in plan, plan
    assert "Seq Scan" not in plan
    assert "SCAN accounts" not in plan


@pytest.fixture
async def long_lived(database_url: str) -> AsyncIterator[Database]:
    """As much of what is not an account as makes a server prefer an index; little of it is to be purged."""
    now = utc_now()
    ages = [timedelta(hours=number % 24) for number in range(ROWS)]
    ages[::1000] = [timedelta(days=9)] * len(ages[::1000])
    keys = [hashlib.sha256(str(number).encode()).digest() for number in range(ROWS)]
    rows: dict[type[Base], list[dict[str, object]]] = {
        Event: [
            {
                "sequence": number + 1,
                "at": now,
                "type": "account.changed",
                "account_id": UUID(int=number % 1000),
                "details": {},
                "hash": bytes(32),
            }
            for number in range(ROWS)
        ],
        IdempotencyKey: [
            {"key_hash": key, "request_hash": key, "account_id": new_id(), "created_at": now - age}
            for key, age in zip(keys, ages, strict=True)
        ],
        AttemptCounter: [
            {
                **dict.fromkeys(("count", "counted_at", "retry_at", "pending", "pending_until", "known_until"), 0),
                "key": key,
                "forget_at": int((now + timedelta(days=1) - age).timestamp() * 1000),
            }
            for key, age in zip(keys, ages, strict=True)
        ],
    }
    async with open_database(database_url) as database:
        await database.migrate("users_service")
        async with database.engine.begin() as connection:
            for model, values in rows.items():
                await connection.execute(insert(model), values)
            await connection.execute(text("ANALYZE"))
        yield database


OTHERS: dict[str, tuple[Query, str, str]] = {
    "events of an account": (
        lambda session: events.read_about(session, UUID(int=7)),
        "FROM events",
        "ix_events_account_id",
    ),
    "events from somewhere": (lambda session: events.read(session, after=9000, limit=100), "FROM events", "pk_events"),
    "purge of idempotency keys": (
        lambda session: idempotency.claim(session, key="a key", actor=None, fields={}),
        "DELETE FROM idempotency_keys",
        "ix_idempotency_keys_created_at",
    ),
    "purge of attempt counters": (
        lambda session: attempts.purge(session, int(utc_now().timestamp() * 1000)),
        "DELETE FROM attempt_counters",
        "ix_attempt_counters_forget_at",
    ),
}


@pytest.mark.parametrize("name", OTHERS)
async def test_what_grows_with_use_is_read_and_purged_by_an_index(long_lived: Database, name: str) -> None:
    query, fragment, index = OTHERS[name]
    plan = await plan_of(long_lived, query, fragment=fragment)
    assert index in plan or index.replace("pk_events", "sqlite_autoindex_events_") in plan, plan
    assert "Seq Scan" not in plan
    assert "SCAN events" not in plan


async def test_full_names_of_an_older_version_are_looked_for_by_an_index(database: Database) -> None:
    plan = await plan_of(database, page(q="user0001"), fragment="(full_name_canonical IS NULL)")
    assert "ix_accounts_unspelled" in plan, plan
