"""Everything that auth asks its database is answered from an index, on both servers."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any

import httpx
import pytest
from auth_service.account_events import AccountEvent, AccountEvents, was_ended
from auth_service.revocations import Revocations
from auth_service.sessions import digest
from auth_service.tables import AccountEnding, RefreshTokenRow, SessionRow
from prometheus_client import CollectorRegistry
from servicekit.database import Database, new_id, open_database, utc_now
from servicekit.health import Readiness
from sqlalchemy import insert, text

from tests.explain import explain, recorded
from tests.unit.auth.test_sessions import sessions_in

ROWS = 5000
LARGE = "sessions|refresh_tokens|account_endings"
SCAN = re.compile(rf"Seq Scan on ({LARGE})|SCAN ({LARGE})")


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """As many rows as make a server prefer an index."""
    async with open_database(database_url) as database:
        await database.migrate("auth_service")
        sessions = [session(number) for number in range(ROWS)]
        tokens = [
            {"hash": digest(str(number)), "session_id": row["id"], "created_at": utc_now(), "used_at": None}
            for number, row in enumerate(sessions)
        ]
        endings = [{"sequence": number, "subject": f"user{number}", "at": utc_now()} for number in range(ROWS)]
        async with database.engine.begin() as connection:
            await connection.execute(insert(SessionRow), sessions)
            await connection.execute(insert(RefreshTokenRow), tokens)
            await connection.execute(insert(AccountEnding), endings)
            await connection.execute(text("ANALYZE"))
        yield database


def session(number: int) -> Mapping[str, Any]:
    now = utc_now()
    return {
        "id": new_id(),
        "subject": f"user{number // 2}",
        "client_id": "pinhole-web",
        "scope": "profile",
        "successor_secret": bytes(32),
        "access_token_seconds": 900,
        "created_at": now,
        "last_used_at": now,
        "expires_at": now + timedelta(hours=number),
        "ended_at": now - timedelta(hours=number) if number % 2 else None,
    }


async def take_an_event(database: Database) -> None:
    async with httpx.AsyncClient() as http:
        event = AccountEvent.model_validate(
            {"sequence": ROWS, "at": utc_now(), "type": "account.erased", "account_id": new_id(), "details": {}}
        )
        await AccountEvents(http, database, CollectorRegistry(), Readiness())._apply([event])


async def ask_for_an_ending(database: Database) -> None:
    async with database.begin() as transaction:
        await was_ended(transaction, "user7", events_seen=ROWS - 10)


def revocations(database: Database) -> Revocations:
    return Revocations(database, access_token_seconds=900)


QUERIES: dict[str, Callable[[Database], Awaitable[object]]] = {
    "sign in": lambda database: sessions_in(database).start(
        subject="user7", client_id="pinhole-web", scopes=frozenset({"profile"}), events_seen=ROWS
    ),
    "find": lambda database: sessions_in(database).find("8", client_id="pinhole-web"),
    "rotate": lambda database: sessions_in(database).rotate("8"),
    "introspect": lambda database: sessions_in(database).find_unused("8"),
    "list": lambda database: sessions_in(database).list_live("user7"),
    "end": lambda database: sessions_in(database).end(new_id()),
    "end all": lambda database: revocations(database).end_all("user7"),
    "is revoked": lambda database: revocations(database).is_revoked(str(new_id())),
    "revocations": lambda database: revocations(database).list_ended(None),
    "later revocations": lambda database: revocations(database).list_ended(f"1_{new_id().hex}"),
    "revoke": lambda database: revocations(database)._find_by_refresh_token("8"),
    "take an event": take_an_event,
    "sign-ins under way": ask_for_an_ending,
}


@pytest.mark.parametrize("name", QUERIES)
async def test_no_table_that_grows_is_read_as_a_whole(database: Database, name: str) -> None:
    with recorded(database.engine) as statements:
        await QUERIES[name](database)
    asked = [statement for statement in statements if statement[0].startswith(("SELECT", "UPDATE", "DELETE"))]
    assert asked
    async with database.engine.begin() as connection:
        for statement, parameters in asked:
            plan = await explain(connection, statement, parameters)
            assert not SCAN.search(plan), f"{statement}\n{plan}"
