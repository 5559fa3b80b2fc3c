"""`pinhole-users`, as an administrator types it."""

import asyncio
import contextlib
import json
import os
import pty
import signal
import stat
import subprocess
import sysconfig
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import bcrypt
import pytest
from pwdlib import PasswordHash
from servicekit.database import open_database
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession
from typer.testing import CliRunner
from users_service.cli import app
from users_service.tables import Account, Event

from tests.unit.users.driver import PASSWORD

T = TypeVar("T")
Run = Callable[..., Any]


@pytest.fixture
def run(database_url: str, monkeypatch: pytest.MonkeyPatch, restored_logging: None) -> Run:
    """Runs the command with arguments and, where given, standard input, beside a service that has been started."""
    start_once(database_url)
    monkeypatch.setenv("USERS_DATABASE_URL", database_url)
    return lambda *arguments, **options: CliRunner().invoke(app, [str(part) for part in arguments], **options)


def start_once(database_url: str) -> None:
    """Leave a database as a first start of the service does."""

    async def migrate() -> None:
        async with open_database(database_url) as database:
            await database.migrate("users_service")

    asyncio.run(migrate())


def ask(database_url: str, question: Callable[[AsyncSession], Awaitable[T]]) -> T:
    async def run() -> T:
        async with open_database(database_url) as database, database.begin() as session:
            return await question(session)

    return asyncio.run(run())


def accounts_in(database_url: str) -> dict[str, Account]:
    async def read(session: AsyncSession) -> dict[str, Account]:
        return {account.username: account for account in (await session.scalars(select(Account))).all()}

    return ask(database_url, read)


def events_in(database_url: str) -> list[tuple[str, str, str | None]]:
    """Return the events: what happened, to whom, and who did it."""

    async def read(session: AsyncSession) -> list[tuple[str, str, str | None]]:
        query = select(Event.type, Account.username, Event.actor).join(Account, Account.id == Event.account_id)
        return [(*row,) for row in await session.execute(query.order_by(Event.sequence))]

    return ask(database_url, read)


def lines(*accounts: Any) -> str:
    return "".join(account if isinstance(account, str) else json.dumps(account) + "\n" for account in accounts)


def person(name: str, **fields: Any) -> dict[str, Any]:
    return {"username": name, "email": f"{name}@example.com"} | fields


def test_an_administrator_is_created_with_a_password_that_no_argument_held(run: Run, database_url: str) -> None:
    result = run("create-admin", "root", "root@example.com", "--password-stdin", "--json", input=f"{PASSWORD}\n")
    assert result.exit_code == 0, result.output
    account = accounts_in(database_url)["root"]
    assert json.loads(result.stdout) == {"id": str(account.id)}
    assert account.roles == ["user", "admin"]
    assert account.password_hash is not None
    assert PasswordHash.recommended().verify(PASSWORD, account.password_hash)


def test_a_line_from_windows_is_read_without_its_end(database_url: str) -> None:
    start_once(database_url)
    result = subprocess.run(
        [
            Path(sysconfig.get_path("scripts")) / "pinhole-users",
            "create-admin",
            "root",
            "root@example.com",
            "--password-stdin",
        ],
        env={**os.environ, "USERS_DATABASE_URL": database_url},
        input=f"{PASSWORD}\r\n".encode(),
        stderr=subprocess.PIPE,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    stored = accounts_in(database_url)["root"].password_hash
    assert stored is not None
    assert PasswordHash.recommended().verify(PASSWORD, stored)


def test_what_a_command_changes_is_in_the_audit_log_and_nothing_personal_is(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOG_FORMAT", "json")
    arguments = ("create-admin", "root", "root@example.com", "--password-stdin", "--json")
    result = run(*arguments, input=f"{PASSWORD}\n")
    (line,) = [json.loads(line) for line in result.stderr.splitlines()]
    assert (line["event"], line["audit"], line["actor"]) == ("account_created", True, "pinhole-users")
    assert line["account_id"] == json.loads(result.stdout)["id"]
    assert "example.com" not in result.stderr


def test_the_password_is_asked_for_twice_and_not_shown(run: Run) -> None:
    result = run("create-admin", "root", "root@example.com", input=f"{PASSWORD}\n{PASSWORD}\n")
    assert result.exit_code == 0, result.output
    assert PASSWORD not in result.output


@pytest.mark.parametrize(
    ("arguments", "password", "reason"),
    [
        (("ro ot", "root@example.com"), PASSWORD, "username"),
        (("root", "nowhere"), PASSWORD, "email"),
        (("root", "root@example.com"), "short", "password"),
        (("root", "root@example.com"), f"{PASSWORD}\x07", "password: expected no control characters"),
        (("root", "root@example.com"), "root@example.com", "the password is too easy to guess"),
        (("taken", "root@example.com"), PASSWORD, "username is taken"),
    ],
)
def test_what_cannot_be_created_is_one_sentence(
    run: Run, arguments: tuple[str, str], password: str, reason: str
) -> None:
    run("create-admin", "taken", "taken@example.com", "--password-stdin", input=f"{PASSWORD}\n")
    result = run("create-admin", *arguments, "--password-stdin", input=f"{password}\n")
    assert result.exit_code == 2
    assert reason in result.stderr
    assert "Traceback" not in result.output
    assert result.stderr.count("\n") == 1


def test_good_lines_are_imported_and_bad_ones_named(run: Run, database_url: str, tmp_path: Path) -> None:
    run("create-admin", "taken", "taken@example.com", "--password-stdin", input=f"{PASSWORD}\n")
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    file = tmp_path / "accounts.ndjson"
    file.write_text(
        lines(
            person("ada", full_name="Ada", roles=["admin"], disabled=True, password_hash=hashed),
            person("TAKEN", email="other@example.com"),
            "\n",
            "{no json\n",
            person("x"),
            person("eve", password_hash="md5:0123"),
            person("ada", email="second@example.com"),
            person("bob"),
        )
    )
    result = run("import", file, "--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert (report["dry_run"], report["lines"], report["imported"]) == (False, 8, 2)
    errors = {(error["line"], error["field"]) for error in report["errors"]}
    assert errors == {(2, "username"), (4, None), (5, "username"), (6, "password_hash"), (7, "username")}
    found = accounts_in(database_url)
    assert found.keys() == {"taken", "ada", "bob"}
    assert (found["ada"].roles, found["ada"].disabled, found["ada"].password_hash) == (["admin"], True, hashed)
    assert (found["bob"].roles, found["bob"].password_hash) == (["user"], None)
    assert json.loads(run("verify-audit", "--json").stdout)["sequence"] == 3
    assert events_in(database_url) == [
        ("account.created", "taken", "pinhole-users"),
        ("account.created", "ada", "pinhole-users import"),
        ("account.created", "bob", "pinhole-users import"),
    ]


def test_a_dry_run_finds_the_same_and_leaves_nothing(run: Run, database_url: str) -> None:
    content = lines(person("ada"), person("ADA", email="x@example.com"), person("bob"))
    result = run("import", "-", "--dry-run", "--json", input=content)
    assert (result.exit_code, accounts_in(database_url)) == (1, {})
    dry = json.loads(result.stdout)
    real = json.loads(run("import", "-", "--json", input=content).stdout)
    assert dry == real | {"dry_run": True}
    assert [error["line"] for error in real["errors"]] == [2]


def test_an_import_in_words_repeats_no_address(run: Run) -> None:
    result = run("import", "-", input=lines(person("ada"), person("ada"), person("eve", email="nowhere.example")))
    assert result.exit_code == 1
    assert "line 2: " in result.stdout
    assert "line 3: email: " in result.stdout
    assert "1 of 3 lines were imported" in result.stdout
    assert "nowhere.example" not in result.output


def test_more_than_a_batch_is_imported_and_exported_again(run: Run, tmp_path: Path) -> None:
    wanted = [person(f"user{number}", full_name="Ünïcode ☃") for number in range(1203)]
    assert run("import", "-", input=lines(*wanted)).exit_code == 0
    file = tmp_path / "export.ndjson"
    file.touch(0o644)  # as one that was there, and open to others
    assert run("export", file).exit_code == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    exported = [json.loads(line) for line in file.read_text().splitlines()]
    assert [account | expected for account, expected in zip(exported, wanted, strict=True)] == exported
    assert "password_hash" not in exported[0]


def test_who_looks_on_sees_how_far_an_import_is(run: Run, database_url: str, tmp_path: Path) -> None:
    file = tmp_path / "accounts.ndjson"
    file.write_text(lines(*(person(f"user{number}") for number in range(700))))
    master, terminal = pty.openpty()
    with (
        subprocess.Popen(
            [Path(sysconfig.get_path("scripts")) / "pinhole-users", "import", file],
            env={**os.environ, "USERS_DATABASE_URL": database_url, "COLUMNS": "100", "TERM": "xterm"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=terminal,
            text=True,
        ) as command,
        os.fdopen(master, encoding="utf-8", errors="replace") as screen,
    ):
        os.close(terminal)
        shown = ""
        with contextlib.suppress(OSError):  # so a terminal ends
            while part := screen.read(1):
                shown += part
        assert command.stdout is not None
        assert command.stdout.read() == "700 of 700 lines were imported\n"
        assert command.wait(60) == 0
    for part in ("lines", "━", "0/700", "700/700"):
        assert part in shown
    again = run("import", file)
    assert again.exit_code == 1
    assert again.stderr == "", "nobody looks at a file"


def test_an_export_that_is_interrupted_leaves_what_was_there_and_nothing_beside_it(
    run: Run, database_url: str, tmp_path: Path
) -> None:
    folder = tmp_path / "exports"
    folder.mkdir()
    file = folder / "accounts.ndjson"
    file.write_text("of yesterday\n")
    command = (Path(sysconfig.get_path("scripts")) / "pinhole-users", "export", file)
    variables = {**os.environ, "USERS_DATABASE_URL": database_url, "USERS_MIGRATE_AT_START": "false"}

    async def interrupt() -> int:
        async with open_database(database_url) as database, database.begin() as session:
            is_sqlite = session.get_bind().dialect.name == "sqlite"
            await session.execute(text("SELECT 1" if is_sqlite else "LOCK TABLE accounts"))
            process = await asyncio.create_subprocess_exec(*command, env=variables)
            async with asyncio.timeout(60):
                while file.read_text() and len(list(folder.iterdir())) == 1:  # noqa: ASYNC110 nobody tells
                    await asyncio.sleep(0.05)
                process.send_signal(signal.SIGINT)
                return await process.wait()

    assert asyncio.run(interrupt()) != 0
    assert [(path.name, path.read_text()) for path in folder.iterdir()] == [(file.name, "of yesterday\n")]


def test_an_export_goes_into_a_pipe_and_to_where_a_link_leads(run: Run, tmp_path: Path) -> None:
    run("import", "-", input=lines(person("ada")))
    os.mkfifo(pipe := tmp_path / "pipe")
    reader = subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE, text=True)
    assert run("export", pipe).exit_code == 0
    assert json.loads(reader.communicate(timeout=60)[0])["username"] == "ada"

    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere" / "file")
    assert run("export", link).exit_code == 0
    assert link.is_symlink()
    assert json.loads(link.read_text())["username"] == "ada"


def test_of_many_errors_of_an_import_the_first_are_kept_and_the_others_counted(run: Run) -> None:
    bad = "no json\n" * 1003
    report = json.loads(run("import", "-", "--json", input=bad).stdout)
    assert [error["line"] for error in report["errors"]] == list(range(1, 1001))
    assert report["more_errors"] == 3
    told = run("import", "-", input=bad + lines(person("ada")))
    assert told.exit_code == 1
    assert told.stdout.splitlines()[-2:] == ["and 3 more errors", "1 of 1004 lines were imported"]


def test_what_was_exported_with_hashes_can_be_imported(run: Run, database_url: str, tmp_path: Path) -> None:
    run("create-admin", "root", "root@example.com", "--password-stdin", input=f"{PASSWORD}\n")
    exported = run("export", "-", "--with-hashes").stdout
    before = accounts_in(database_url)["root"]

    async def empty(session: AsyncSession) -> None:
        await session.execute(text("DELETE FROM accounts"))

    ask(database_url, empty)
    assert run("import", "-", input=exported).exit_code == 0
    after = accounts_in(database_url)["root"]
    assert (after.password_hash, after.roles) == (before.password_hash, before.roles)


def test_a_file_that_is_not_there_is_one_sentence(run: Run, tmp_path: Path) -> None:
    for command in ("import", "export"):
        result = run(command, tmp_path / "nowhere" / "file")
        assert result.exit_code == 2
        assert "No such file or directory" in result.stderr


def test_a_broken_trail_is_status_1(run: Run, database_url: str) -> None:
    run("import", "-", input=lines(person("ada"), person("bob")))
    result = run("verify-audit")
    assert (result.exit_code, result.stdout.split(" ")[0]) == (0, "2")

    async def tamper(session: AsyncSession) -> None:
        if session.get_bind().dialect.name == "sqlite":
            await session.execute(text("DROP TRIGGER events_refuse_update"))
        else:
            await session.execute(text("ALTER TABLE events DISABLE TRIGGER ALL"))
        event = (await session.scalars(select(Event).where(Event.sequence == 1))).one()
        event.actor = "somebody else"

    ask(database_url, tamper)
    broken = run("verify-audit", "--json")
    assert broken.exit_code == 1
    assert json.loads(broken.stdout) == {"ok": False, "detail": "event 1 is not as it was written"}


def test_a_file_that_is_no_database_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restored_logging: None
) -> None:
    file = tmp_path / "notes"
    file.write_text("no database " * 1000)
    monkeypatch.setenv("USERS_DATABASE_URL", f"sqlite+aiosqlite:///{file}")
    result = CliRunner().invoke(app, ["verify-audit"])
    assert result.exit_code == 1
    assert result.stderr.endswith(f"{file} of USERS_DATABASE_URL: file is not a database\n")
