"""Attempts at passwords: as many as the limit says, however they come, and never at the cost of the account's owner."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from prometheus_client import CollectorRegistry
from servicekit.connections import DatabaseUnavailable
from servicekit.database import Database, open_database
from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from users_service.attempts import DELAYS_SECONDS, KEPT_SECONDS, KNOWN_SECONDS, PENDING_SECONDS, Guard
from users_service.dependencies import get_passwords
from users_service.errors import Overloaded, TooManyAttempts
from users_service.passwords import Passwords
from users_service.tables import AttemptCounter

from tests.issuer import Issuer
from tests.unit.clock import Clock
from tests.unit.users.driver import PASSWORD, Users, assert_problem, serving, users_settings
from tests.unit.users.test_credentials import CountingPasswords

LIMIT = 5
HOME, ELSEWHERE = "192.0.2.1", "198.51.100.7"


class StoppedClock(Clock):
    """In place of that of the database."""

    async def read(self, _session: AsyncSession) -> datetime:
        return datetime.fromtimestamp(self.now, UTC)


@pytest.fixture
def clock() -> StoppedClock:
    return StoppedClock(1_800_000_000.0)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with open_database(database_url) as database:
        await database.migrate("users_service")
        yield database


def guard_of(
    database: Database,
    clock: StoppedClock,
    *,
    per_address: int = 1000,
    per_name: int = 1000,
    key: bytes = b"of the replicas",
    registry: CollectorRegistry | None = None,
) -> Guard:
    """Return a guard with more patience than a busy machine needs."""
    return Guard(
        database,
        registry or CollectorRegistry(),
        key=key,
        per_pair=LIMIT,
        per_address=per_address,
        per_name=per_name,
        patience_seconds=60,
        clock=clock.read,
    )


@pytest.fixture
def guard(database: Database, clock: StoppedClock) -> Guard:
    return guard_of(database, clock)


async def try_one(guard: Guard, name: str = "ada", address: str = HOME, *, is_right: bool = False) -> bool:
    """Tell whether an attempt was let through."""
    try:
        async with guard.attempt(name, address) as attempt:
            await asyncio.sleep(0)  # others come in between
            attempt.is_right = is_right
    except TooManyAttempts:
        return False
    return True


async def seconds_to_wait(guard: Guard, name: str = "ada", address: str = HOME) -> int:
    """Return what a refused caller is told."""
    with pytest.raises(TooManyAttempts) as refused:
        async with guard.attempt(name, address):
            pytest.fail("the attempt was let through")
    return int(refused.value.headers["Retry-After"])


async def use_up(guard: Guard, name: str = "ada", address: str = HOME, attempts: int = LIMIT) -> None:
    for _ in range(attempts):
        assert await try_one(guard, name, address)
    assert not await try_one(guard, name, address)


async def test_a_burst_of_wrong_guesses_gets_exactly_the_limit(database_url: str, database: Database) -> None:
    async with open_database(database_url) as other:
        guards = [guard_of(database, StoppedClock(1_800_000_000.0)), guard_of(other, StoppedClock(1_800_000_000.0))]
        tried = await asyncio.gather(*(try_one(guards[number % 2]) for number in range(60)))
    assert tried.count(True) == LIMIT


async def test_right_passwords_at_the_same_time_all_get_in(guard: Guard) -> None:
    assert all(await asyncio.gather(*(try_one(guard, is_right=True) for _ in range(4 * LIMIT))))


async def test_a_replica_whose_clock_is_ahead_lets_no_more_attempts_through(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def guard() -> Guard:
        return Guard(database, CollectorRegistry(), key=b"", per_pair=LIMIT, per_address=1000, per_name=1000)

    await use_up(guard())
    ahead = time.time() + 3600
    monkeypatch.setattr(time, "time", lambda: ahead)
    assert not await try_one(guard())


async def test_after_the_limit_each_attempt_has_to_wait_longer(guard: Guard, clock: StoppedClock) -> None:
    await use_up(guard)
    for delay in (*DELAYS_SECONDS, DELAYS_SECONDS[-1]):
        assert await seconds_to_wait(guard) == delay
        clock.now += delay - 1
        assert await seconds_to_wait(guard) == 1
        clock.now += 1
        assert await try_one(guard)


async def test_the_metrics_tell_attempts_and_lockouts_apart(database: Database, clock: StoppedClock) -> None:
    registry = CollectorRegistry()
    guard = guard_of(database, clock, per_address=2 * LIMIT - 1, registry=registry)

    def lockouts(counter: str) -> float | None:
        return registry.get_sample_value("users_lockouts_total", {"counter": counter})

    for _ in range(LIMIT - 1):
        await try_one(guard)
    await try_one(guard, is_right=True)
    assert lockouts("pair") == 0
    await use_up(guard, "eve")
    assert [lockouts(counter) for counter in ("pair", "address", "name")] == [1, 1, 0]
    clock.now += DELAYS_SECONDS[0]
    await try_one(guard, "eve")
    assert lockouts("pair") == 2  # one more wrong password locks it again, for longer
    outcomes = ("right", "wrong", "refused")
    tried = [registry.get_sample_value("users_password_attempts_total", {"outcome": outcome}) for outcome in outcomes]
    assert tried == [1, LIMIT - 1 + LIMIT + 1, 1]


async def test_a_right_password_starts_the_count_anew(guard: Guard, clock: StoppedClock) -> None:
    await use_up(guard)
    clock.now += DELAYS_SECONDS[0]
    assert await try_one(guard, is_right=True)
    await use_up(guard)


async def test_with_time_wrong_attempts_are_forgotten(guard: Guard, clock: StoppedClock) -> None:
    await use_up(guard)
    clock.now += 2 * 3600
    assert await try_one(guard)
    assert await try_one(guard)
    assert not await try_one(guard)
    clock.now += KEPT_SECONDS
    await use_up(guard)


async def test_guesses_from_elsewhere_do_not_lock_out_who_has_signed_in_here(
    database: Database, clock: StoppedClock
) -> None:
    guard = guard_of(database, clock, per_name=20)
    assert await try_one(guard, is_right=True)
    for number in range(20):
        assert await try_one(guard, address=f"198.51.100.{number}")
    assert await seconds_to_wait(guard, address="203.0.113.1") == 1
    assert await try_one(guard, name="eve", address="203.0.113.1")
    await use_up(guard)  # as often as if nothing had happened
    clock.now += KNOWN_SECONDS + 1
    assert await try_one(guard)


async def test_an_address_that_guesses_at_many_names_has_to_wait_and_who_is_known_there_has_not(
    database: Database, clock: StoppedClock
) -> None:
    guard = guard_of(database, clock, per_address=20)
    assert await try_one(guard, is_right=True)
    for number in range(20):
        assert await try_one(guard, name=f"user{number}")
    assert await seconds_to_wait(guard, name="another") == 1
    assert await try_one(guard, name="another", address=ELSEWHERE)
    assert await try_one(guard, is_right=True)


async def test_ones_own_right_password_buys_no_guesses_at_others(database: Database, clock: StoppedClock) -> None:
    guard = guard_of(database, clock, per_address=20)
    for number in range(20):
        assert await try_one(guard, name=f"mine{number}", is_right=True)
        assert await try_one(guard, name=f"user{number}")
    assert not await try_one(guard, name="another")


@pytest.mark.parametrize("problem", [Overloaded, DatabaseUnavailable])
async def test_an_attempt_that_was_not_looked_at_is_taken_back(
    guard: Guard, problem: type[Overloaded | DatabaseUnavailable]
) -> None:
    for _ in range(3 * LIMIT):
        with pytest.raises(problem):
            async with guard.attempt("ada", HOME):
                raise problem
    await use_up(guard)


async def test_an_attempt_whose_process_died_was_a_wrong_one_and_is_not_waited_for(
    database: Database, clock: StoppedClock
) -> None:
    died = [guard_of(database, clock).attempt("ada", HOME) for _ in range(LIMIT)]
    for attempt in died:
        await attempt.__aenter__()
    clock.now += PENDING_SECONDS
    async with asyncio.timeout(8):
        assert await seconds_to_wait(guard_of(database, clock)) == DELAYS_SECONDS[0] - PENDING_SECONDS


@pytest.mark.parametrize(
    ("first", "second", "is_same"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("", "", True),
        ("/run/a.sock", "/run/a.sock", True),
    ],
)
async def test_an_address_is_what_one_caller_has(guard: Guard, first: str, second: str, is_same: bool) -> None:
    await use_up(guard, address=first)
    assert await try_one(guard, address=second) is not is_same


async def test_what_is_forgotten_of_a_name_is_all_of_it_and_nothing_else(guard: Guard, database: Database) -> None:
    for name in ("ada", "eve"):
        await use_up(guard, name)
        await use_up(guard, name, ELSEWHERE)
    async with database.begin() as session:
        await guard.forget(session, "ada", "a name that nobody has tried")
        assert await session.scalar(select(func.count()).select_from(AttemptCounter)) == 3 + 2
    assert not await try_one(guard, "eve")
    await use_up(guard, "ada")
    await use_up(guard, "ada", ELSEWHERE)


async def test_who_has_the_counters_without_the_key_cannot_tell_a_name_or_an_address(
    database: Database, clock: StoppedClock
) -> None:
    async def keys_with(key: bytes) -> set[bytes]:
        await try_one(guard_of(database, clock, key=key))
        async with database.begin() as session:
            return set(await session.scalars(delete(AttemptCounter).returning(AttemptCounter.key)))

    first, second = await keys_with(b"a key"), await keys_with(b"another key")
    assert len(first | second) == 6
    halves = [key[place : place + 16] for key in first | second for place in (0, 16)]
    for guess in (
        "ada",
        "of a name\0ada",
        "name\0ada",
        f"pair\0ada\0{HOME}",
        f"address\0{HOME}",
        f"address\0{HOME}/32",
    ):
        assert hashlib.sha256(guess.encode()).digest()[:16] not in halves


async def test_names_and_addresses_are_not_stored_and_counters_do_not_stay(
    guard: Guard, clock: StoppedClock, database: Database
) -> None:
    for number in range(12):
        await try_one(guard, name=f"user{number}")
    async with database.begin() as session:
        stored = repr((await session.execute(select(AttemptCounter.__table__))).all())
    assert "user" not in stored
    assert HOME not in stored
    clock.now += KEPT_SECONDS + 1
    for _ in range(5):
        await try_one(guard, name="ada")
    async with database.begin() as session:
        assert await session.scalar(select(func.count()).select_from(AttemptCounter)) == 3


# Over HTTP


@asynccontextmanager
async def serving_with(database_url: str, issuer: Issuer, passwords: Passwords) -> AsyncIterator[Users]:
    settings = users_settings(database_url, issuer, attempts_per_name_and_address=LIMIT)
    async with serving(settings, issuer) as users:
        users.app.dependency_overrides[get_passwords] = lambda: passwords
        yield users


async def test_beyond_the_limit_no_hash_is_computed_for_a_name_that_exists_and_for_one_that_does_not(
    database_url: str, issuer: Issuer
) -> None:
    passwords = CountingPasswords()
    async with serving_with(database_url, issuer, passwords) as users:
        await users.create("ada", password=PASSWORD)
        await users.create("gone", password=PASSWORD, disabled=True)
        refusals = set()
        for spellings in (
            ["ada", "ADA", "\uff41da"],
            ["gone", "Gone"],
            ["unknown"],
            ["x@example.com", "X@EXAMPLE.com"],
        ):
            passwords.verified.clear()
            answers = [
                await users.http.post(
                    "/internal/credentials/verify",
                    json={"username": spellings[number % len(spellings)], "password": "wrong", "address": HOME},
                    headers=users.auth,
                )
                for number in range(LIMIT + 2)
            ]
            assert [answer.status_code for answer in answers] == [200] * LIMIT + [429] * 2
            assert {answer.content for answer in answers[:LIMIT]} == {b'{"account":null}'}
            assert len(passwords.verified) == LIMIT
            assert_problem(answers[-1], 429)
            assert 0 < int(answers[-1].headers["retry-after"]) <= DELAYS_SECONDS[0]
            assert spellings[0] not in answers[-1].text
            refusals |= {answer.content for answer in answers[LIMIT:]}
        assert len(refusals) == 1
        elsewhere = {"username": "ada", "password": PASSWORD, "address": ELSEWHERE}
        answer = await users.http.post("/internal/credentials/verify", json=elsewhere, headers=users.auth)
        assert answer.json()["account"] is not None
        metrics = (await users.http.get("/metrics")).text
    assert f'users_password_attempts_total{{outcome="wrong"}} {4 * LIMIT}.0' in metrics
    assert 'users_password_attempts_total{outcome="refused"} 8.0' in metrics


async def test_a_stolen_token_does_not_guess_the_password_of_its_account(
    database_url: str, issuer: Issuer, cheap_passwords: Passwords
) -> None:
    async with serving_with(database_url, issuer, cheap_passwords) as users:
        account = await users.create("ada", password=PASSWORD)
        change = {"current_password": "wrong", "new_password": f"{PASSWORD} again"}
        answers = [
            await users.http.post("/users/me/password", json=change, headers=users.own(account))
            for _ in range(LIMIT + 1)
        ]
        assert [answer.status_code for answer in answers] == [403] * LIMIT + [429]
        assert_problem(answers[-1], 429)
        assert int(answers[-1].headers["retry-after"]) <= DELAYS_SECONDS[0]
        there = {"username": "ada", "password": PASSWORD, "address": "127.0.0.1"}
        answer = await users.http.post("/internal/credentials/verify", json=there, headers=users.auth)
        assert answer.json()["account"] is not None, "who signs in is counted apart"
