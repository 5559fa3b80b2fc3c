"""A service of an earlier version goes on beside this one: it writes the columns that it knows."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID

import pytest
from servicekit.database import Database, open_database
from sqlalchemy import update
from users_service import events
from users_service.dependencies import get_passwords
from users_service.listing import SPELLED_AT_ONCE
from users_service.tables import (
    Account,
    AttemptCounter,
    Base,
    DeletedAccount,
    Event,
    EventHead,
    IdempotencyKey,
    Secret,
)

from tests.issuer import Issuer
from tests.older_versions import Row, migrated_past, older_revisions, stored
from tests.unit.users.driver import PASSWORD, Users, serving, users_settings
from tests.unit.users.test_credentials import CountingPasswords

PACKAGE = "users_service"
ID, NOW = UUID("01920000-0000-7000-8000-000000000001"), datetime(2026, 1, 2, tzinfo=UTC)
PERSON = {
    "id": ID,
    "username": "Ada",
    "email": "Ada@example.com",
    "full_name": "ÅDA King",
    "disabled": False,
    "role_user": True,
    "role_admin": True,
    "password_hash": f"hash of {PASSWORD}",
    "created_at": NOW,
    "updated_at": NOW,
}
# What is stored of each kind, and what of it is changed then.
ROWS: dict[type[Base], tuple[Row, Row]] = {
    Account: (
        PERSON | {"username_canonical": "ada", "email_canonical": "ada@example.com", "full_name_canonical": "åda king"},
        {"full_name": "Ada STRAßE", "full_name_canonical": "ada strasse", "role_admin": False},
    ),
    DeletedAccount: (PERSON | {"deleted_at": NOW}, {"disabled": True}),
    Event: (
        {
            "sequence": 1,
            "at": NOW,
            "type": "account.created",
            "account_id": ID,
            "actor": None,
            "details": {"roles": ["user"]},
            "hash": bytes(32),
        },
        {},  # the server refuses to change one
    ),
    IdempotencyKey: (
        {"key_hash": b"k" * 32, "request_hash": b"r" * 32, "account_id": ID, "created_at": NOW},
        {"request_hash": b"s" * 32},
    ),
    AttemptCounter: (
        {
            "key": b"k" * 32,
            "count": 1,
            "counted_at": 2,
            "retry_at": 3,
            "pending": 4,
            "pending_until": 5,
            "known_until": 6,
            "forget_at": 7,
        },
        {"count": 2, "retry_at": 0},
    ),
    Secret: ({"name": "of an older version", "value": b"v" * 32}, {"value": b"w" * 32}),
}


@pytest.fixture
async def database(empty_database_url: str) -> AsyncIterator[Database]:
    async with open_database(empty_database_url) as database:
        yield database


def test_no_table_is_missing() -> None:
    models: list[type[Base]] = [*ROWS, EventHead]
    assert {model.__tablename__ for model in models} == set(Base.metadata.tables)
    for model, (row, _) in ROWS.items():
        assert set(row) == set(model.__table__.columns.keys())


@pytest.mark.parametrize("revision", older_revisions(PACKAGE))
async def test_what_an_older_version_writes_is_read_as_it_was_meant(database: Database, revision: str) -> None:
    older = await migrated_past(database, PACKAGE, revision)
    for model in [model for model in ROWS if older.knows(model)]:
        row, changes = ROWS[model]
        await older.insert(model, row)
        assert (await stored(database, model)).items() >= older.of(model, row).items()
        await older.update(model, changes)
        assert (await stored(database, model)).items() >= older.of(model, {**row, **changes}).items()
    if older.knows(EventHead):
        await older.update(EventHead, {"sequence": 7, "hash": b"h" * 32})
        assert await stored(database, EventHead) == {"id": 1, "sequence": 7, "hash": b"h" * 32}


async def found(users: Users, q: str) -> list[str]:
    response = await users.http.get("/users", params={"q": q}, headers=users.admin)
    assert response.status_code == 200, response.text
    return [account["full_name"] for account in response.json()]


@pytest.mark.parametrize("revision", older_revisions(PACKAGE))
async def test_an_account_of_an_older_version_works_while_that_goes_on(
    empty_database_url: str, issuer: Issuer, database: Database, revision: str
) -> None:
    older = await migrated_past(database, PACKAGE, revision)
    row, changes = ROWS[Account]
    async with serving(users_settings(empty_database_url, issuer), issuer) as users:
        users.app.dependency_overrides[get_passwords] = CountingPasswords
        await older.insert(Account, row)
        before = (await users.http.get(f"/users/{ID}", headers=users.admin)).json()
        assert before["full_name"] == "ÅDA King"
        assert await found(users, "åda") == ["ÅDA King"]
        assert (await users.http.get(f"/users/{ID}", headers=users.admin)).json() == before, "a search changes nothing"
        await older.update(Account, changes)
        assert await found(users, "åda") == []
        assert await found(users, "ada stras") == ["Ada STRAßE"]
        assert await users.sign_in("ada") == {"id": str(ID), "roles": ["user"]}
        await older.update(Account, {"full_name": None, "full_name_canonical": None})
        assert await found(users, "ada stras") == []
        patch = {"full_name": "Ada Byron"}
        assert (await users.http.patch(f"/users/{ID}", json=patch, headers=users.admin)).status_code == 200
        assert await found(users, "ADA B") == ["Ada Byron"]
        assert [head.sequence async for head in events.verify(database)] == [1]


@pytest.mark.parametrize("server", ["postgresql"], indirect=True)
async def test_who_looks_for_a_name_waits_for_nobody_who_changes_one(
    empty_database_url: str, issuer: Issuer, database: Database
) -> None:
    """SQLite lets one writer in at a time."""
    older = await migrated_past(database, PACKAGE, "0006")
    await older.insert(Account, ROWS[Account][0])
    async with serving(users_settings(empty_database_url, issuer), issuer) as users, database.begin() as session:
        await session.execute(update(Account).values(disabled=True))
        assert await found(users, "nobody") == []


async def test_more_names_of_an_older_version_than_are_spelled_at_once_are_all_found(
    empty_database_url: str, issuer: Issuer, database: Database
) -> None:
    older = await migrated_past(database, PACKAGE, "0006")
    row, _ = ROWS[Account]
    rows = [
        {
            **row,
            "id": UUID(int=number),
            "username_canonical": f"user{number}",
            "email_canonical": f"user{number}@example.com",
            "full_name": f"{'First' if number < SPELLED_AT_ONCE else 'Last'} of many",
        }
        for number in range(SPELLED_AT_ONCE + 1)
    ]
    await older.insert(Account, *rows)
    async with serving(users_settings(empty_database_url, issuer), issuer) as users:
        assert await found(users, "last OF") == ["Last of many"]
