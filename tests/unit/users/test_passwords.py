"""The hash pool."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import bcrypt
import pytest
from prometheus_client import CollectorRegistry
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from users_service.errors import Overloaded
from users_service.metrics import HashMetrics
from users_service.passwords import Passwords, open_passwords

from tests.eventually import eventually
from tests.unit.users.driver import PASSWORD


class BlockedHasher(Argon2Hasher):
    """Computes when it is let."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.let = threading.Event()
        self.let.set()
        self.computed = 0

    def hash(self, password: str | bytes, *, salt: bytes | None = None) -> str:
        assert self.let.wait(timeout=10)
        self.computed += 1
        return super().hash(password, salt=salt)


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    with open_passwords(workers=2, queue_size=2) as passwords:
        yield passwords


async def test_hashes_are_argon2id_with_the_stated_cost_and_a_new_salt_each(passwords: Passwords) -> None:
    first, second = (
        await passwords.hash(PASSWORD, field="body.password"),
        await passwords.hash(PASSWORD, field="body.password"),
    )
    assert first.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert first != second
    assert (await passwords.verify(PASSWORD, first)).is_right
    assert not (await passwords.verify("wrong", first)).is_right


async def test_where_there_is_no_hash_every_password_is_wrong(passwords: Passwords) -> None:
    verdict = await passwords.verify(PASSWORD, None)
    assert (verdict.is_right, verdict.upgraded_hash) == (False, None)


async def test_a_password_is_the_same_from_keyboards_that_compose_and_that_do_not(passwords: Passwords) -> None:
    stored = await passwords.hash("cafe\u0301 au lait", field="body.password")
    assert (await passwords.verify("caf\u00e9 au lait", stored)).is_right


@pytest.mark.parametrize("password", ["p" * 72 + "q" * 28, "é" * 50, "short"])
async def test_a_bcrypt_hash_takes_what_its_maker_took(passwords: Passwords, password: str) -> None:
    stored = bcrypt.hashpw(password.encode()[:72], bcrypt.gensalt(4)).decode()
    verdict = await passwords.verify(password, stored)
    assert verdict.is_right
    assert verdict.upgraded_hash is not None
    assert verdict.upgraded_hash.startswith("$argon2id$")
    assert not (await passwords.verify(f"x{password}", stored)).is_right


async def test_a_weaker_argon2_hash_is_upgraded(passwords: Passwords) -> None:
    weak = Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
    verdict = await passwords.verify(PASSWORD, weak)
    assert verdict.upgraded_hash is not None
    assert (await passwords.verify(PASSWORD, verdict.upgraded_hash)).upgraded_hash is None


async def test_the_pool_takes_what_it_has_places_for_and_sheds_the_rest() -> None:
    hasher = BlockedHasher()
    with ThreadPoolExecutor(1) as executor:
        passwords = Passwords(PasswordHash([hasher]), executor, HashMetrics(None), capacity=3)
        hasher.let.clear()
        waiting = [asyncio.create_task(passwords.hash(PASSWORD, field="body.password")) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await passwords.hash(PASSWORD, field="body.password")
        hasher.let.set()
        await asyncio.gather(*waiting)
        await passwords.hash(PASSWORD, field="body.password")
    assert hasher.computed == 1 + 3 + 1  # the first is the decoy


async def test_the_metrics_show_what_runs_and_what_waits_also_when_callers_leave() -> None:
    hasher, registry = BlockedHasher(), CollectorRegistry()

    async def shown(*expected: float) -> None:
        names = ("hashes_in_progress", "hash_queue_size", "hash_duration_seconds_count")

        async def is_shown() -> bool:
            return tuple(registry.get_sample_value(f"users_password_{name}") for name in names) == expected

        await eventually(is_shown)

    with ThreadPoolExecutor(1) as executor:
        passwords = Passwords(PasswordHash([hasher]), executor, HashMetrics(registry), capacity=3)
        hasher.let.clear()
        tasks = [asyncio.create_task(passwords.hash(PASSWORD, field="body.password")) for _ in range(3)]
        await shown(1, 2, 0)
        tasks[2].cancel()
        await shown(1, 1, 0)
        hasher.let.set()
        await asyncio.gather(*tasks[:2])
        await shown(0, 0, 2)


async def test_the_metrics_show_the_size_of_the_pool() -> None:
    registry = CollectorRegistry()
    with open_passwords(workers=2, queue_size=3, registry=registry):
        assert registry.get_sample_value("users_password_hash_pool_size") == 2
        assert registry.get_sample_value("users_password_hash_queue_capacity") == 3


async def test_a_caller_who_leaves_frees_the_place_when_the_thread_is_done() -> None:
    hasher = BlockedHasher()
    with ThreadPoolExecutor(1) as executor:
        passwords = Passwords(PasswordHash([hasher]), executor, HashMetrics(None), capacity=2)
        hasher.let.clear()
        running, queued = (asyncio.create_task(passwords.hash(PASSWORD, field="body.password")) for _ in range(2))
        await asyncio.sleep(0)
        queued.cancel()
        running.cancel()
        await asyncio.wait([running, queued])
        remaining = asyncio.create_task(
            passwords.hash(PASSWORD, field="body.password")
        )  # takes the place of the queued one
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await passwords.hash(PASSWORD, field="body.password")
        hasher.let.set()
        await remaining
    assert hasher.computed == 1 + 1 + 1
