"""Levels of logs that change while a service runs."""

import json
import logging
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from servicekit.background import running
from servicekit.database import open_database
from servicekit.log_levels import Levels, follow_levels, main, wanted_levels
from servicekit.logs import configure_logs, get_audit_log, get_logger
from servicekit.settings import LogLevel
from sqlalchemy import text

from tests.eventually import eventually


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "level"
    monkeypatch.setenv("LOG_LEVELS_FILE", str(path))
    return path


@pytest.fixture(autouse=True)
def restored(restored_logging: None) -> Iterator[None]:
    yield
    logging.getLogger("sample").setLevel(logging.NOTSET)


@asynccontextmanager
async def followed(file: Path) -> AsyncIterator[None]:
    configure_logs("sample", level="INFO", format="json")
    async with running(follow_levels(file), "levels"):
        yield


async def until(name: str | None, level: int) -> None:
    async def is_so() -> bool:
        return logging.getLogger(name).level == level

    await eventually(is_so, within_seconds=30)


def test_the_command_writes_through_no_link_that_a_stranger_put_there(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("of the service")
    file.with_name(f"{file.name}.new").symlink_to(other)
    file.symlink_to(other)
    main(["debug"])
    assert other.read_text() == "of the service"
    assert wanted_levels(file) == {"root": "DEBUG"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["level", "level.new", "other"]


async def test_the_command_changes_the_level_and_puts_it_back(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with followed(file):
        main(["debug"])
        assert capsys.readouterr().out == "root DEBUG\n"
        await until(None, logging.DEBUG)
        main(["--reset"])
        await until(None, logging.INFO)
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(e["event"], e["levels"], e["audit"]) for e in events] == [
        ("log_levels_changed", {"root": "DEBUG"}, True),
        ("log_levels_changed", {}, True),
    ]


async def test_one_logger_can_be_louder_than_the_rest(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with followed(file):
        main(["DEBUG", "sample"])
        main(["ERROR"])
        assert sorted(capsys.readouterr().out.split("\n")[-3:-1]) == ["root ERROR", "sample DEBUG"]
        await until(None, logging.ERROR)
        await until("sample", logging.DEBUG)
        capsys.readouterr()
        get_logger("other").warning("not_said")
        get_logger("sample").debug("said")
    assert [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()] == ["said"]


async def test_statements_are_logged_without_what_they_read_and_write(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loggers = ("sqlalchemy.engine", "aiosqlite")
    async with followed(file):
        for name in loggers:
            main(["DEBUG", name])
        for name in loggers:
            await until(name, logging.DEBUG)
        async with open_database(f"sqlite+aiosqlite:///{tmp_path}/sample.db") as database, database.begin() as session:
            await session.execute(text("CREATE TABLE hashes (hash text)"))
            await session.execute(text("INSERT INTO hashes VALUES (:hash)"), {"hash": "$argon2id$"})
            assert (await session.scalars(text("SELECT hash FROM hashes"))).all() == ["$argon2id$"]
        main(["--reset"])
        await until("aiosqlite", logging.WARNING)
        await until("sqlalchemy.engine", logging.NOTSET)
    logged = capsys.readouterr().err
    assert "SELECT hash FROM hashes" in logged
    assert "$argon2id$" not in logged


async def test_a_change_ends_by_itself(file: Path) -> None:
    async with followed(file):
        main(["DEBUG", "--minutes", "0.05"])
        await until(None, logging.DEBUG)
        await until(None, logging.INFO)


@pytest.mark.parametrize(
    "text",
    [
        "DEBUG",
        "",
        Levels(levels={"root": "DEBUG"}, until=0).model_dump_json(),
        json.dumps({"levels": {"root": "LOUD"}, "until": 1e12}),
    ],
    ids=["not JSON", "empty", "over", "no level"],
)
def test_a_file_that_says_nothing_good_changes_nothing(file: Path, text: str) -> None:
    file.write_text(text)
    assert wanted_levels(file) == {}


def test_a_strangers_file_changes_nothing(file: Path) -> None:
    file.write_text(Levels(levels={"root": "DEBUG"}, until=time.time() + 60).model_dump_json())
    assert wanted_levels(file) == {"root": "DEBUG"}
    assert wanted_levels(file, owner=os.geteuid() + 1) == {}


@pytest.mark.parametrize("arguments", [["LOUD"], ["DEBUG", "--minutes", "0"], ["DEBUG", "--minutes", "2000"]])
def test_what_cannot_be_is_refused(file: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert not file.exists()


@pytest.mark.parametrize("level", ["WARNING", "ERROR"])
def test_no_level_silences_the_audit_log(level: LogLevel, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("sample", level=level, format="json")
    get_logger("sample").info("not_said")
    get_audit_log().info("client_deleted", client_id="a")
    said: list[dict[str, Any]] = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["event"], line["audit"], line["logger"]) for line in said] == [("client_deleted", True, "audit")]
