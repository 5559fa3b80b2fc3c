"""Many accounts at once: from lines of JSON, and to lines of JSON, in memory that does not grow with them."""

import itertools
import sqlite3
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from servicekit.database import Database
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from users_service import accounts, events, listing
from users_service.errors import AccountExists
from users_service.events import Occurrence
from users_service.imported_hashes import check_importable
from users_service.listing import Filters
from users_service.schemas import User, UserReplacement
from users_service.tables import Account

IMPORT_ACTOR = "pinhole-users import"
BATCH = 500
NAMES = ("username", "email")
KEPT_ERRORS = 1000
"""Of an import; the others are counted: a file that is wrong throughout would be held as errors, longer than it is."""


class Line(UserReplacement):
    """One account of an import, and of an export that includes hashes."""

    password_hash: Annotated[str, AfterValidator(check_importable)] | None = Field(None, repr=False)


class ExportedLine(User):
    """One account of an export."""

    model_config = ConfigDict(from_attributes=True)

    password_hash: str | None = Field(None, repr=False)


class LineError(BaseModel):
    """A line that was left out, and why. It repeats nothing of the line."""

    line: int
    field: str | None
    detail: str


@dataclass
class Report:
    """What an import has done so far."""

    lines: int = 0
    imported: int = 0
    errors: list[LineError] = field(default_factory=list)
    more_errors: int = 0

    def add(self, error: LineError) -> None:
        """Keep an error, or count it where there are many already."""
        if len(self.errors) < KEPT_ERRORS:
            self.errors.append(error)
        else:
            self.more_errors += 1


@dataclass(frozen=True)
class _Numbered:
    number: int
    line: Line

    def account(self) -> Account:
        fields = {"roles": ["user"]} | self.line.changes()
        return Account(**fields, password_hash=self.line.password_hash)

    @classmethod
    def read(cls, number: int, text: bytes, report: Report) -> Iterator[Self]:
        """Yield the line, if it is one; else note what is wrong with it."""
        try:
            yield cls(number, Line.model_validate_json(text))
        except ValidationError as invalid:
            for error in invalid.errors(include_url=False, include_input=False, include_context=False):
                name = ".".join(str(part) for part in error["loc"]) or None
                report.add(LineError(line=number, field=name, detail=error["msg"].removeprefix("Value error, ")))


async def import_lines(database: Database, lines: Iterable[bytes], *, is_dry_run: bool) -> AsyncIterator[Report]:
    """Create an account for each line that is one, a batch a transaction, yielding the report after each.

    A line that is not valid, or whose names are taken, is reported and left out. A dry run finds
    the same errors and writes nothing: nobody waits for it.
    """
    report = Report()
    with closing(sqlite3.connect("")) as earlier:  # a file, which is gone with it: memory would grow with the lines
        earlier.execute("CREATE TABLE names (kind TEXT, name TEXT, PRIMARY KEY (kind, name)) WITHOUT ROWID")
        for batch in _batches(enumerate(lines, start=1)):
            report.lines += len(batch)
            read = [entry for number, text in batch if text.strip() for entry in _Numbered.read(number, text, report)]
            async with database.begin() as session:
                if is_dry_run:
                    await _check_batch(session, read, report, earlier)
                else:
                    created = await _create_batch(session, read, report)
                    await events.append(session, *(_occurrence(account) for account in created))
            yield report


async def export_lines(database: Database, *, with_hashes: bool) -> AsyncIterator[list[bytes]]:
    """Yield chunks of lines, an account a line, in the order in which the accounts were created."""
    exclude = None if with_hashes else {"password_hash"}
    after: str | None = None
    while True:
        async with database.begin() as session:
            found, after = await listing.read_page(session, Filters(), after=after, limit=BATCH)
        lines = (ExportedLine.model_validate(account).model_dump_json(exclude=exclude) for account in found)
        yield [line.encode() + b"\n" for line in lines]
        if after is None:
            return


async def count_accounts(database: Database) -> int:
    """Return how many accounts there are."""
    async with database.begin() as session:
        return (await session.execute(select(func.count()).select_from(Account))).scalar_one()


def _batches(lines: Iterator[tuple[int, bytes]]) -> Iterator[list[tuple[int, bytes]]]:
    while batch := list(itertools.islice(lines, BATCH)):
        yield batch


async def _check_batch(
    session: AsyncSession, read: Sequence[_Numbered], report: Report, earlier: sqlite3.Connection
) -> None:
    """Count which accounts could be created, after those of `earlier` lines, whose names are kept there."""
    batch = [(entry.number, entry.account()) for entry in read]
    taken = {kind: await _taken(session, kind, [account for _, account in batch]) for kind in NAMES}
    for number, account in batch:
        names = {kind: getattr(account, f"{kind}_canonical") for kind in NAMES}
        for kind, name in names.items():
            known = "SELECT 1 FROM names WHERE kind = ? AND name = ?"
            if name in taken[kind] or earlier.execute(known, (kind, name)).fetchone():
                _report_taken(report, number, AccountExists(kind))
                break
        else:
            earlier.executemany("INSERT INTO names VALUES (?, ?)", names.items())
            report.imported += 1


async def _taken(session: AsyncSession, kind: str, accounts: Sequence[Account]) -> set[str]:
    """Return which names of `accounts` an account has that is there."""
    column = getattr(Account, f"{kind}_canonical")
    names = [getattr(account, column.key) for account in accounts]
    return {*await session.scalars(select(column).where(column.in_(names)))}


async def _create_batch(session: AsyncSession, read: Sequence[_Numbered], report: Report) -> Sequence[Account]:
    try:
        async with session.begin_nested():
            created = [entry.account() for entry in read]
            session.add_all(created)
            await accounts.flush(session)
    except AccountExists:
        created = [account for entry in read if (account := await _create_one(session, entry, report)) is not None]
    report.imported += len(created)
    return created


def _occurrence(account: Account) -> Occurrence:
    return Occurrence("account.created", account.id, IMPORT_ACTOR, accounts.rights(account))


async def _create_one(session: AsyncSession, entry: _Numbered, report: Report) -> Account | None:
    """Create one account of a batch that cannot be created as a whole."""
    account = entry.account()
    try:
        async with session.begin_nested():
            session.add(account)
            await accounts.flush(session)
    except AccountExists as taken:
        _report_taken(report, entry.number, taken)
        return None
    return account


def _report_taken(report: Report, number: int, taken: AccountExists) -> None:
    (error,) = taken.errors
    report.add(LineError(line=number, field=error.field.removeprefix("body."), detail=error.detail))
