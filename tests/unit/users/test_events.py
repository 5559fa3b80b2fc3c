"""The events: an audit trail that cannot be changed unnoticed, and a feed that leaves nothing out."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from servicekit.database import Database, open_database
from servicekit.logs import AUDIT
from sqlalchemy import text, update
from users_service import events
from users_service.events import BrokenTrail, Head
from users_service.tables import Event, EventHead

from tests.unit.users.driver import PASSWORD, Users, assert_problem


@pytest.fixture
async def database(users: Users, database_url: str) -> AsyncIterator[Database]:
    async with open_database(database_url) as database:
        yield database


async def read_events(users: Users, after: int = 0) -> list[dict[str, Any]]:
    response = await users.http.get("/events", params={"after": after}, headers=users.admin)
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()
    return found


async def verified(database: Database) -> Head:
    heads = [head async for head in events.verify(database)]
    return heads[-1] if heads else Head(0, bytes(32))


async def change_and_end(users: Users, account: dict[str, Any]) -> None:
    """Change and reset the password of an account, delete it, restore it, and erase it."""
    path = f"/users/{account['id']}"
    change = {"current_password": PASSWORD, "new_password": f"{PASSWORD} again"}
    await users.http.post("/users/me/password", json=change, headers=users.own(account))
    await users.http.post(f"{path}/password", json={"new_password": PASSWORD}, headers=users.admin)
    await users.http.delete(path, headers=users.own(account))
    await users.http.post(f"{path}/restore", headers=users.admin)
    await users.http.delete(path, params={"erase": "true"}, headers=users.admin)


async def test_each_change_is_an_event_with_who_did_it(users: Users) -> None:
    await users.create("root", roles=["admin"])
    account = await users.create("ada", password=PASSWORD)
    path = f"/users/{account['id']}"
    await users.http.patch("/users/me", json={"email": "x@example.com", "full_name": "A"}, headers=users.own(account))
    await users.http.patch(path, json={"disabled": True, "roles": ["user", "admin"]}, headers=users.admin)
    await users.http.patch(path, json={"disabled": False}, headers=users.admin)
    await change_and_end(users, account)

    found = (await read_events(users))[1:]
    me, admin = account["id"], "someone"
    assert [(event["type"], event["actor"]) for event in found] == [
        ("account.created", admin),
        ("account.changed", me),
        ("account.changed", admin),
        ("account.changed", admin),
        ("password.changed", me),
        ("password.reset", admin),
        ("account.deleted", me),
        ("account.restored", admin),
        ("account.erased", admin),
    ]
    assert {event["account_id"] for event in found} == {me}
    assert [event["sequence"] for event in found] == list(range(2, 11))
    assert found[1]["details"] == {"fields": ["email", "full_name"], "roles": ["user"], "disabled": False}
    assert found[2]["details"] == {"fields": ["disabled", "roles"], "roles": ["user", "admin"], "disabled": True}


async def test_each_change_is_in_the_audit_log_with_the_same_name(
    users: Users, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger=AUDIT)
    await users.create("root", roles=["admin"])
    account = await users.create("ada", password=PASSWORD)
    path = f"/users/{account['id']}"
    await users.http.patch(path, json={"full_name": "Ada"}, headers=users.admin)
    await change_and_end(users, account)
    written = [event["type"].replace(".", "_") for event in await read_events(users)]
    logged = [line for line in caplog.messages if " audit=True " in line]
    assert [line.split("'")[1] for line in logged] == written
    assert all(f"account_id='{account['id']}'" in line for line in logged[1:])
    assert "ada@example.com" not in caplog.text


async def test_a_password_change_names_the_session_that_it_came_from(users: Users, database: Database) -> None:
    account = await users.create("ada", password=PASSWORD)
    passwords = [PASSWORD, f"{PASSWORD} again", PASSWORD]
    for number, session in enumerate(({"sid": "of this caller"}, {})):
        change = {"current_password": passwords[number], "new_password": passwords[number + 1]}
        headers = users.issuer.bearer(subject=account["id"], scope="profile", **session)
        assert (await users.http.post("/users/me/password", json=change, headers=headers)).status_code == 204
    changes = [event["details"] for event in await read_events(users) if event["type"] == "password.changed"]
    assert changes == [{"session_id": "of this caller"}, {}]
    assert (await verified(database)).sequence == 3


async def test_fields_that_stay_as_they_are_are_not_called_changed(users: Users) -> None:
    account = await users.create("ada", roles=["user", "admin"])
    await users.create("root", roles=["admin"])
    whole = {"username": "ada", "email": "new@example.com", "roles": ["admin", "user", "user"], "disabled": False}
    response = await users.http.put(f"/users/{account['id']}", json=whole, headers=users.admin)
    assert response.status_code == 200
    assert (await read_events(users))[-1]["details"]["fields"] == ["email"]


async def test_auth_follows_the_events_with_its_own_token_and_knows_where_they_end(users: Users) -> None:
    for number in range(3):
        await users.create(f"user{number}")
    response = await users.http.get("/internal/events", params={"after": 1, "limit": 1}, headers=users.auth)
    assert response.json() == {"events": (await read_events(users))[1:2], "last": 3}
    for params in ({}, {"after": -1}, {"after": 0, "limit": 1001}):
        assert_problem(await users.http.get("/internal/events", params=params, headers=users.auth), 422)


async def test_who_is_signed_in_knows_the_last_event_before(users: Users) -> None:
    await users.create("ada", password=PASSWORD)
    await users.create("eve")
    body = {"username": "ada", "password": PASSWORD}
    answer = await users.http.post("/internal/credentials/verify", json=body, headers=users.auth)
    assert answer.json()["account"]["last_event"] == 2


async def test_a_refused_change_leaves_no_event(users: Users) -> None:
    ada = await users.create("ada")
    await users.create("eve")
    before = await read_events(users)
    assert_problem(await users.http.patch("/users/me", json={"username": "eve"}, headers=users.own(ada)), 409)
    assert await read_events(users) == before


async def test_a_follower_meets_every_event_once(users: Users) -> None:
    accounts = [await users.create(f"user{number}") for number in range(5)]
    url, met = "/events?limit=2", []
    for _ in range(3):
        response = await users.http.get(url, headers=users.admin)
        met += [event["account_id"] for event in response.json()]
        link = re.fullmatch(r'<(/events\?after=\d+&limit=2)>; rel="next"', response.headers["link"])
        assert link is not None
        url = link[1]
    assert met == [account["id"] for account in accounts]
    response = await users.http.get(url, headers=users.admin)
    assert (response.json(), response.headers["link"]) == ([], f'<{url}>; rel="next"')
    late = await users.create("late")
    assert [event["account_id"] for event in (await users.http.get(url, headers=users.admin)).json()] == [late["id"]]


async def test_writers_at_once_leave_no_gap_and_one_chain(users: Users, database: Database) -> None:
    await asyncio.gather(*(users.create(f"user{number}") for number in range(12)))
    assert [event["sequence"] for event in await read_events(users)] == list(range(1, 13))
    assert (await verified(database)).sequence == 12


async def test_a_bad_position_is_422_and_named(users: Users) -> None:
    for name, value in (("after", "-1"), ("after", str(2**63)), ("after", "x"), ("limit", "0"), ("limit", "1001")):
        response = await users.http.get("/events", params={name: value}, headers=users.admin)
        assert_problem(response, 422, f"query.{name}")


async def test_an_export_holds_all_that_is_kept_of_ones_own_account(users: Users) -> None:
    account = await users.create("ada", password=PASSWORD)
    await users.create("eve")
    await users.http.patch(f"/users/{account['id']}", json={"full_name": "Ada"}, headers=users.admin)
    response = await users.http.get("/users/me/export", headers=users.own(account))
    assert response.headers["content-disposition"] == 'attachment; filename="account.json"'
    export = response.json()
    assert export["account"] == (await users.http.get("/users/me", headers=users.own(account))).json()
    assert export["has_password"] is True
    without = await users.create("bob")
    assert (await users.http.get("/users/me/export", headers=users.own(without))).json()["has_password"] is False
    assert [event["type"] for event in export["events"]] == ["account.created", "account.changed"]
    assert "argon2" not in response.text
    assert "someone" not in response.text, "who else had to do with it is their own affair"


# The trail


@pytest.mark.parametrize("statement", ["UPDATE events SET actor = 'me'", "DELETE FROM events"])
async def test_the_server_refuses_to_change_what_was_written(users: Users, database: Database, statement: str) -> None:
    await users.create("ada")
    with pytest.raises(Exception, match="events can only be added"):
        async with database.begin() as session:
            await session.execute(text(statement))
    assert (await verified(database)).sequence == 1


def put_in(sequence: str) -> str:
    """Return the statement that copies an event to another number; the server refuses no INSERT."""
    columns = "at, type, account_id, actor, details, hash"
    return f"INSERT INTO events (sequence, {columns}) SELECT {sequence}, {columns} FROM events WHERE sequence = 4"


OF_THE_FIRST = "SELECT {} FROM events WHERE sequence = 1"


@pytest.mark.parametrize(
    ("tampering", "message"),
    [
        ("UPDATE events SET actor = 'me' WHERE sequence = 2", "event 2 is not as it was written"),
        ("UPDATE events SET type = 'account.changed' WHERE sequence = 3", "event 3 is not as it was written"),
        (
            f"UPDATE events SET at = ({OF_THE_FIRST.format('at')}) WHERE sequence = 3",
            "event 3 is not as it was written",
        ),
        (f"UPDATE events SET account_id = ({OF_THE_FIRST.format('account_id')}) WHERE sequence = 3", "event 3 is not"),
        ("UPDATE events SET details = '{}' WHERE sequence = 3", "event 3 is not as it was written"),
        ("DELETE FROM events WHERE sequence = 2", "event 2 is missing"),
        ("DELETE FROM events WHERE sequence = 4", "the events from 4 to 4 are missing"),
        ("DELETE FROM events", "the events from 1 to 4 are missing"),
        ("UPDATE event_head SET hash = (SELECT hash FROM events WHERE sequence = 3)", "event 4 is not the one"),
        (put_in("5"), "event 5 is not the last that was written, which is 4"),
        (put_in("9000"), "event 9000 is not the last that was written, which is 4"),
        (put_in("0"), "event 0 was put in before the first"),
        (put_in("-7"), "event -7 was put in before the first"),
    ],
)
async def test_tampering_by_who_owns_the_database_is_found(
    users: Users, database: Database, tampering: str, message: str
) -> None:
    for number in range(4):
        await users.create(f"user{number}")
    assert (await verified(database)).sequence == 4
    async with database.begin() as session:
        if database.engine.dialect.name == "sqlite":
            for verb in ("update", "delete"):
                await session.execute(text(f"DROP TRIGGER events_refuse_{verb}"))
        else:
            await session.execute(text("ALTER TABLE events DISABLE TRIGGER ALL"))
        await session.execute(text(tampering))
    with pytest.raises(BrokenTrail, match=message):
        await verified(database)


async def test_what_is_hashed_of_an_event_stays_as_it_is(database: Database) -> None:
    """Else each trail that is there would be called broken. The hashes were computed apart from the service."""
    account_id = UUID("01920000-0000-7000-8000-000000000001")
    hashes = [
        bytes.fromhex("05fcaa598566e081142f6b4229381e151fb80e89d82828121785a20aa18aaaa2"),
        bytes.fromhex("d958e89af6bc1a60cd85f0bd625b8ca7a3c0620942d54c6037ffaa35595f4411"),
    ]
    async with database.begin() as session:
        session.add(
            Event(
                sequence=1,
                at=datetime(2026, 1, 2, 3, 4, 5, 678901, UTC),
                type="account.created",
                account_id=account_id,
                actor=None,
                details={"roles": ["user"], "disabled": False},
                hash=hashes[0],
            )
        )
        session.add(
            Event(
                sequence=2,
                at=datetime(2026, 1, 2, 3, 4, 6, tzinfo=UTC),
                type="account.deleted",
                account_id=account_id,
                actor="an administrator",
                details={},
                hash=hashes[1],
            )
        )
        await session.execute(update(EventHead).values(sequence=2, hash=hashes[1]))
    assert await verified(database) == Head(2, hashes[1])


async def test_an_empty_trail_is_right(database: Database) -> None:
    assert await verified(database) == Head(0, bytes(32))


async def test_an_event_in_an_empty_trail_is_found(users: Users, database: Database) -> None:
    await users.create("ada")
    async with database.begin() as session:
        await session.execute(update(EventHead).values(sequence=0, hash=bytes(32)))
    with pytest.raises(BrokenTrail, match="event 1 is not the last that was written, which is 0"):
        await verified(database)


async def test_a_trail_that_grows_meanwhile_is_right(users: Users, database: Database) -> None:
    await users.create("ada")
    async for head in events.verify(database):
        await users.create(f"after{head.sequence}")
    assert (await verified(database)).sequence == 2
