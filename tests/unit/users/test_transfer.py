"""Many accounts at once, in little memory."""

import asyncio
import itertools
import json
import tracemalloc
from collections.abc import Iterator

from servicekit.database import open_database
from users_service import transfer
from users_service.tables import Account


def people(count: int) -> Iterator[bytes]:
    for number in range(count):
        yield json.dumps({"username": f"user{number}", "email": f"user{number}@example.com"}).encode()


async def test_a_line_with_what_the_server_cannot_store_is_left_out_and_no_other(database_url: str) -> None:
    hashed = "pbkdf2_sha256$1000$s\0lt$" + "A" * 43 + "="
    lines = [json.dumps({"username": "ada", "email": "ada@example.com", "password_hash": hashed}).encode()]
    async with open_database(database_url) as database:
        await database.migrate("users_service")
        async for report in transfer.import_lines(database, itertools.chain(lines, people(2)), is_dry_run=False):
            assert (report.imported, [(error.line, error.field) for error in report.errors]) == (
                2,
                [(1, "password_hash")],
            )


async def test_memory_does_not_grow_with_the_number_of_accounts(database_url: str) -> None:
    """What is held at once is a batch: the later ones take no more than the first few."""
    async with open_database(database_url) as database:
        await database.migrate("users_service")
        peaks, reports = [], []
        tracemalloc.start()
        try:
            async for report in transfer.import_lines(database, people(3000), is_dry_run=False):
                reports.append((report.imported, report.errors))
                peaks.append(tracemalloc.get_traced_memory()[1])
                tracemalloc.reset_peak()
            assert reports[-1] == (3000, [])
            assert max(peaks[3:]) < 1.5 * max(peaks[:3])
            sizes, peaks = [], []
            async for chunk in transfer.export_lines(database, with_hashes=False):
                sizes.append(len(chunk))
                peaks.append(tracemalloc.get_traced_memory()[1])
                tracemalloc.reset_peak()
        finally:
            tracemalloc.stop()
        assert sum(sizes) == 3000
        assert max(peaks[3:]) < 1.5 * max(peaks[:3])
        assert list(itertools.accumulate(sizes))[:2] == [transfer.BATCH, 2 * transfer.BATCH]


def repeated(count: int) -> Iterator[bytes]:
    """Yield accounts that are taken, by those that are there or by a line of another batch."""
    for number in range(count):
        for username, email in ((f"User{number}", f"new{number}@example.com"), (f"new{number}", "ada@example.com")):
            yield json.dumps({"username": username, "email": email}).encode()
    yield json.dumps({"username": "ADA", "email": "ADA@example.com"}).encode()


async def test_a_dry_run_keeps_no_name_from_others_and_finds_the_same_errors(database_url: str) -> None:
    async with open_database(database_url) as database, open_database(database_url) as other:
        await database.migrate("users_service")
        async with database.begin() as session:
            session.add(Account(username="ada", email="ada@example.com", roles=["user"]))
        count = transfer.BATCH
        runs = []
        for is_dry_run in (True, False):
            lines = itertools.chain(people(count), repeated(count))
            async for report in transfer.import_lines(database, lines, is_dry_run=is_dry_run):
                if is_dry_run and report.lines == count:  # somebody signs up meanwhile, and thinks better of it
                    async with asyncio.timeout(2), other.begin() as session:
                        account = Account(username="user1", email="user1@example.com", roles=["user"])
                        session.add(account)
                        await session.flush()
                        await session.delete(account)
            runs.append(report)
        dry, real = runs
        assert dry == real
        assert (dry.imported, dry.lines) == (count, 3 * count + 1)
        assert [(error.line, error.field) for error in dry.errors[-2:]] == [(1499, "username"), (1500, "email")]
