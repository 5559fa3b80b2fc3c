"""The database layer: transactions, private files, times and ids."""

import asyncio
import stat
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from servicekit.database import UtcDateTime, new_id, open_database, utc_now
from sqlalchemy import String, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """Tables of these tests."""


class Note(Base):
    """A row with a time."""

    __tablename__ = "notes"

    name: Mapped[str] = mapped_column(String(20), primary_key=True)
    at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    count: Mapped[int] = mapped_column(default=0)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite+aiosqlite:///{tmp_path}/new/folder/notes.db"


async def test_a_sqlite_file_is_made_for_its_owner_only(url: str, tmp_path: Path) -> None:
    async with open_database(url) as database, database.engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    mode = (tmp_path / "new/folder/notes.db").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600


async def test_a_folder_that_cannot_be_made_stops_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit, match=r"cannot write .*file/notes\.db"):
        async with open_database(f"sqlite+aiosqlite:///{tmp_path}/file/notes.db"):
            pass


async def test_writers_that_read_first_wait_for_each_other_and_lose_nothing(url: str) -> None:
    async with open_database(url) as database:
        async with database.engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        async with database.sessions.begin() as session:
            session.add(Note(name="one"))

        async def add_one() -> None:
            async with database.sessions.begin() as session:
                note = (await session.scalars(select(Note))).one()
                note.count += 1

        await asyncio.gather(*(add_one() for _ in range(20)))
        async with database.sessions() as session:
            assert (await session.scalars(select(Note.count))).one() == 20


async def test_times_come_back_in_utc_with_their_zone(url: str) -> None:
    at = datetime(2026, 3, 1, 12, tzinfo=timezone(timedelta(hours=5)))
    async with open_database(url) as database:
        async with database.engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        async with database.sessions.begin() as session:
            session.add(Note(name="one", at=at))
        async with database.sessions() as session:
            stored = (await session.scalars(select(Note.at))).one()
    assert stored == at
    assert stored is not None
    assert stored.tzinfo is UTC


def test_a_time_without_a_zone_is_refused() -> None:
    naive = utc_now().replace(tzinfo=None)
    with pytest.raises(ValueError, match="zone"):
        UtcDateTime().process_bind_param(naive, None)  # type: ignore[arg-type]


async def test_an_error_does_not_repeat_the_parameters(url: str) -> None:
    async with open_database(url) as database, database.sessions() as session:
        with pytest.raises(Exception, match="no such table") as failed:
            await session.execute(text("INSERT INTO nowhere VALUES (:secret)"), {"secret": "hunter2"})
    assert "hunter2" not in str(failed.value)


def test_ids_sort_by_the_time_they_were_made() -> None:
    ids = [new_id() for _ in range(100)]
    assert ids == sorted(ids)
    assert {made.version for made in ids} == {7}
