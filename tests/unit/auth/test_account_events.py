"""What happens to accounts ends the sessions that were opened before, and no others."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx
import pytest
from auth_service.account_events import ENDINGS_KEPT, AccountEvents, follow_account_events, was_ended
from auth_service.errors import InvalidGrant
from auth_service.main import create_app
from auth_service.settings import AuthSettings
from auth_service.tables import AccountEnding, AccountFeed, SessionRow
from prometheus_client import CollectorRegistry, generate_latest
from servicekit.database import Database, open_database, utc_now
from servicekit.health import Readiness
from sqlalchemy import event, func, select, text, update
from sqlalchemy.orm import Session

from tests.asgi import running
from tests.eventually import eventually
from tests.unit.auth.fake_users import ADA, ROOT, Answer, FakeUsers
from tests.unit.auth.requests import bearer, refresh, sign_in, stored, verified
from tests.unit.auth.test_sessions import sessions_in

ENDINGS: list[Callable[[FakeUsers], None]] = [
    lambda users: users.tell("account.deleted"),
    lambda users: users.tell("account.erased"),
    lambda users: users.tell("account.changed", fields=["disabled"], roles=["user"], disabled=True),
    lambda users: users.tell("account.changed", fields=["full_name", "roles"], roles=[], disabled=False),
    lambda users: users.tell("password.changed", session_id="01920000-0000-7000-8000-000000000000"),
    lambda users: users.tell("password.changed"),
    lambda users: users.tell("password.reset"),
]
IDS = ["deleted", "erased", "disabled", "roles", "password by its user", "password by a client", "password reset"]


@asynccontextmanager
async def follower(settings: AuthSettings) -> AsyncIterator[AccountEvents]:
    """Yield a replica that follows when it is told to, beside the service, which does so by itself."""
    async with open_database(settings.database_url) as database, httpx.AsyncClient(base_url=settings.users_url) as http:
        yield AccountEvents(http, database, CollectorRegistry(), Readiness())


async def catch_up(settings: AuthSettings) -> None:
    async with follower(settings) as events:
        await events.catch_up()


async def is_live(client: httpx.AsyncClient, tokens: dict[str, Any]) -> bool:
    """Tell whether a session goes on: with all of its tokens, or with none."""
    access = (await client.get("/sessions", headers=bearer(tokens))).status_code == 200
    refreshed = (await refresh(client, tokens["refresh_token"])).status_code == 200
    assert access == refreshed
    return access


@pytest.mark.parametrize("happen", ENDINGS, ids=IDS)
async def test_it_ends_the_sessions_from_before_and_none_from_after(
    client: httpx.AsyncClient, settings: AuthSettings, users: FakeUsers, happen: Callable[[FakeUsers], None]
) -> None:
    users.tell("account.created")
    before, elsewhere, root = [(await sign_in(client, name)).json() for name in ("ada", "ada", "root")]
    happen(users)
    after = (await sign_in(client)).json()
    await catch_up(settings)
    assert [await is_live(client, tokens) for tokens in (before, elsewhere, root, after)] == [False, False, True, True]
    ended = (await client.get("/internal/revocations")).json()["revocations"]
    assert {told["sid"] for told in ended} == {
        (await verified(client, tokens["access_token"])).session_id for tokens in (before, elsewhere)
    }


@pytest.mark.parametrize(
    ("type", "fields"),
    [("account.changed", ["email", "full_name"]), ("account.changed", []), ("account.restored", []), ("new", [])],
)
async def test_other_changes_end_nothing(
    client: httpx.AsyncClient, settings: AuthSettings, users: FakeUsers, type: str, fields: list[str]
) -> None:
    tokens = (await sign_in(client)).json()
    users.tell(type, fields=fields, roles=["user"], disabled=False)
    await catch_up(settings)
    assert await is_live(client, tokens)


async def test_who_changes_their_password_stays_signed_in_there_and_nowhere_else(
    client: httpx.AsyncClient, settings: AuthSettings, users: FakeUsers
) -> None:
    here, elsewhere = (await sign_in(client)).json(), (await sign_in(client)).json()
    users.tell("password.changed", session_id=(await verified(client, here["access_token"])).session_id)
    await catch_up(settings)
    assert [await is_live(client, tokens) for tokens in (here, elsewhere)] == [True, False]


async def test_a_sign_in_that_was_verified_before_the_change_and_stored_after_it_is_refused(
    settings: AuthSettings, users: FakeUsers
) -> None:
    async with open_database(settings.database_url) as database:
        await database.migrate("auth_service")
        sessions = sessions_in(database)
        users.tell("password.reset")
        users.tell("password.reset", ROOT)
        await catch_up(settings)
        with pytest.raises(InvalidGrant):
            await sessions.start(subject=ADA, client_id="one", scopes=frozenset({"profile"}), events_seen=0)
        for subject, seen in ((ADA, 1), (ROOT, 2), ("somebody else", 0)):
            await sessions.start(subject=subject, client_id="one", scopes=frozenset({"profile"}), events_seen=seen)
        async with database.begin() as transaction:
            await transaction.execute(update(AccountEnding).values(at=utc_now() - ENDINGS_KEPT * 2))
        users.tell("password.reset", ROOT)
        await catch_up(settings)
        async with database.begin() as transaction:
            assert (await transaction.scalars(select(AccountEnding.sequence))).all() == [3], "old ones are forgotten"


async def test_while_users_is_away_nothing_is_refused_and_later_nothing_is_missed(
    client: httpx.AsyncClient, settings: AuthSettings, users: FakeUsers
) -> None:
    tokens = (await sign_in(client)).json()
    async with follower(settings) as events:
        for answer in (Answer(503), Answer(200, b"{}"), Answer(302, b"", {"Location": "/"})):
            users.events_answer = answer
            users.tell("password.reset")
            await events.catch_up()
        assert (await client.get("/readyz")).status_code == 200
        assert await is_live(client, tokens)
        users.events_answer = None
        await events.catch_up()
    assert not await is_live(client, tokens)


async def test_what_a_failed_commit_has_not_taken_is_taken_later(settings: AuthSettings, users: FakeUsers) -> None:
    def fail(_session: Session) -> None:
        raise OSError("the disk is full")

    async with follower(settings) as events, open_database(settings.database_url) as database:
        await database.migrate("auth_service")
        await events.catch_up()
        users.tell("password.reset")
        event.listen(Session, "before_commit", fail)
        try:
            await events.catch_up()
        finally:
            event.remove(Session, "before_commit", fail)
        assert await position(database) == 0
        await events.catch_up()
        assert await position(database) == 1
        async with database.begin() as transaction:
            assert await transaction.scalar(select(func.count()).select_from(AccountEnding)) == 1


async def test_a_database_that_fails_is_asked_again(settings: AuthSettings, users: FakeUsers) -> None:
    users.tell("password.reset")
    async with follower(settings) as events:
        await events.catch_up()  # there is no table yet
        async with open_database(settings.database_url) as database:
            await database.migrate("auth_service")
            await events.catch_up()
            assert await position(database) == 1


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_sign_ins_one_over_the_other_keep_no_event_waiting(settings: AuthSettings, users: FakeUsers) -> None:
    """SQLite lets one in at a time."""
    users.tell("password.reset")
    first_may_end, second_is_in, taken = asyncio.Event(), asyncio.Event(), asyncio.Event()
    async with follower(settings) as events, open_database(settings.database_url) as database:

        async def sign_in_until(end: asyncio.Event, is_in: asyncio.Event) -> None:
            async with database.begin() as transaction:
                await was_ended(transaction, ADA, events_seen=0)
                is_in.set()
                await end.wait()

        async def take() -> None:
            await events.catch_up()
            taken.set()

        async def waiting() -> int:
            async with database.begin() as transaction:
                return await transaction.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")) or 0

        async def event_waits() -> bool:
            return await waiting() == 1

        async def second_waits_or_is_in() -> bool:
            return second_is_in.is_set() or await waiting() == 2

        async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
            tasks.create_task(sign_in_until(first_may_end, first_is_in := asyncio.Event()))
            await first_is_in.wait()
            tasks.create_task(take())
            await eventually(event_waits)
            tasks.create_task(sign_in_until(taken, second_is_in))
            await eventually(second_waits_or_is_in)
            first_may_end.set()
        assert await position(database) == 1


async def position(database: Database) -> int:
    async with database.begin() as transaction:
        return (await transaction.scalars(select(AccountFeed.sequence))).one()


async def test_a_long_backlog_is_taken_in_short_turns(settings: AuthSettings, users: FakeUsers) -> None:
    """Sign-ins wait for a turn to end, and services learn of what it has ended then: a thousand events took 8 s."""
    for _ in range(250):
        users.tell("password.reset")
    async with follower(settings) as events, open_database(settings.database_url) as database:
        await database.migrate("auth_service")
        await events.catch_up()
        assert await position(database) == 250
    assert users.events_after == [0, 100, 200]


async def test_many_events_are_taken_page_by_page_and_by_several_replicas_once(
    settings: AuthSettings, users: FakeUsers
) -> None:
    users.events_page = 3
    for _ in range(10):
        users.tell("password.reset")
    async with (
        follower(settings) as one,
        follower(settings) as other,
        open_database(settings.database_url) as database,
    ):
        await database.migrate("auth_service")
        await one.catch_up()
        await other.catch_up()
        users.tell("password.reset")
        await other.catch_up()
        await one.catch_up()
        async with database.begin() as transaction:
            assert await transaction.scalar(select(func.count()).select_from(AccountEnding)) == 11
        assert await position(database) == 11


async def test_a_users_service_that_was_restored_is_followed_from_where_it_is(
    client: httpx.AsyncClient, settings: AuthSettings, users: FakeUsers
) -> None:
    old = (await sign_in(client, "root")).json()
    for _ in range(5):
        users.tell("password.reset")
    lost = (await sign_in(client)).json()
    await catch_up(settings)
    assert await is_live(client, lost)
    del users.events[2:]
    async with open_database(settings.database_url) as database:
        await catch_up(settings)
        assert await position(database) == 2
    assert [await is_live(client, tokens) for tokens in (old, lost)] == [True, False]
    again = (await sign_in(client)).json()
    users.tell("password.reset")
    await catch_up(settings)
    assert not await is_live(client, again)


async def test_a_replica_that_notices_the_restored_service_late_skips_nothing(
    settings: AuthSettings, users: FakeUsers
) -> None:
    for _ in range(5):
        users.tell("password.reset")
    async with (
        follower(settings) as one,
        follower(settings) as other,
        open_database(settings.database_url) as database,
    ):
        await database.migrate("auth_service")
        await one.catch_up()
        await other.catch_up()
        del users.events[2:]
        await one.catch_up()
        users.tell("password.reset")
        await other.catch_up()
        async with database.begin() as transaction:
            assert (await transaction.scalars(select(AccountEnding.sequence))).all() == [1, 2, 3]
        assert await position(database) == 3


async def test_erasure_takes_the_names_of_devices_with_it(
    client: httpx.AsyncClient, settings: AuthSettings, users: FakeUsers
) -> None:
    await sign_in(client)
    await sign_in(client, "root")
    users.tell("account.erased")
    await catch_up(settings)
    async with stored(settings) as transaction:
        devices = {row.subject: row.device for row in await transaction.scalars(select(SessionRow))}
    assert devices[ADA] is None
    assert devices[ROOT]


async def test_sessions_of_the_version_before_are_compared_by_time(
    client: httpx.AsyncClient, settings: AuthSettings, users: FakeUsers
) -> None:
    tokens = (await sign_in(client)).json()
    async with stored(settings) as transaction:
        await transaction.execute(update(SessionRow).values(events_seen=None))
    users.tell("password.reset", at=utc_now() - timedelta(minutes=1))
    await catch_up(settings)
    assert await is_live(client, tokens)
    users.tell("password.reset")
    await catch_up(settings)
    assert not await is_live(client, tokens)


async def test_the_service_follows_by_itself_and_says_how_far_it_is(settings: AuthSettings, users: FakeUsers) -> None:
    started = utc_now()
    async with running(create_app(settings)) as client:
        tokens = (await sign_in(client)).json()
        users.tell("account.deleted")

        async def is_ended() -> bool:
            return (await client.get("/sessions", headers=bearer(tokens))).status_code == 401

        await eventually(is_ended)
        lines = (await client.get("/metrics")).text.splitlines()
    (read_at,) = [line.split()[1] for line in lines if line.startswith("auth_account_events_read_timestamp_seconds ")]
    assert float(read_at) >= started.timestamp()


async def test_events_that_cannot_be_read_do_not_count_as_read(settings: AuthSettings, users: FakeUsers) -> None:
    users.events_answer = Answer(500)
    registry = CollectorRegistry()
    async with open_database(settings.database_url) as database, httpx.AsyncClient(base_url=users.url) as http:
        async with follow_account_events(http, database, registry, Readiness(), interval_seconds=60):
            pass
        await AccountEvents(http, database, CollectorRegistry(), Readiness()).catch_up()
    assert b"auth_account_events_read_timestamp_seconds 0.0" in generate_latest(registry)
