"""`pinhole-users`: what an administrator does at the machine, with the settings of the service."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Annotated, BinaryIO

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from servicekit.command_line import CommandLine, say
from servicekit.database import Database
from servicekit.whole_files import written_whole

from users_service import accounts, events, transfer
from users_service.events import BrokenTrail, Head
from users_service.passwords import open_passwords
from users_service.schemas import NewUser
from users_service.settings import UsersSettings

app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of sentences.")]
File = Annotated[Path, typer.Argument(help="A file of lines of JSON; `-` is standard input or output.")]
command_line = CommandLine(UsersSettings)


@app.command("create-admin")
def create_admin(
    username: str,
    email: str,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input instead of asking.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Create an administrator. The password is asked for; it is never an argument, which others could see."""
    password = sys.stdin.readline().rstrip("\r\n") if password_stdin else _ask_password()

    async def create(database: Database, settings: UsersSettings) -> str:
        new = NewUser.model_validate(
            {"username": username, "email": email, "roles": ["user", "admin"], "password": password}
        )
        with open_passwords(workers=1, queue_size=0, min_score=settings.password_min_score) as passwords:
            hashed = await passwords.hash(password, field="password", about=(username, email))
        async with database.begin() as session:
            account = await accounts.create(session, new.changes(), password_hash=hashed, actor=command_line.name)
        return str(account.id)

    account_id = command_line.run(create)
    say(f"created {account_id}", {"id": account_id}, as_json=as_json)


@app.command("verify-audit")
def verify_audit(as_json: Json = False) -> None:
    """Check that no event was changed, removed or put in. Status 1 if one was.

    Keep the number and the hash that are printed: a later run with the same number has to show the same hash.
    """

    async def verify(database: Database, _settings: UsersSettings) -> Head:
        head = Head(0, bytes(32))
        async with database.begin() as session:
            total = await events.last_sequence(session)
        with _progress("events", total) as advance:
            async for head in events.verify(database):
                advance(head.sequence)
        return head

    try:
        head = command_line.run(verify)
    except BrokenTrail as broken:
        say(f"the trail is broken: {broken}", {"ok": False, "detail": str(broken)}, as_json=as_json)
        raise typer.Exit(1) from None
    answer = {"ok": True, "sequence": head.sequence, "hash": head.hash.hex()}
    say(f"{head.sequence} events are as they were written; the last has {head.hash.hex()}", answer, as_json=as_json)


@app.command("import")
def import_accounts(
    file: File,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Find the errors, and leave nothing behind.")] = False,
    as_json: Json = False,
) -> None:
    """Create an account for each line of JSON.

    A line has `username`, `email`, and where wanted `full_name`, `disabled`, `roles` and
    `password_hash` (argon2, bcrypt, Django's pbkdf2_sha256). Lines that cannot be taken are left out
    and listed, the first thousand errors of them; status 1 if there is one.
    """

    async def run(database: Database, _settings: UsersSettings) -> transfer.Report:
        report = transfer.Report()
        with _read(file) as lines, _progress("lines", _count_lines(file)) as advance:
            async for report in transfer.import_lines(database, lines, is_dry_run=dry_run):
                advance(report.lines)
        return report

    report = command_line.run(run)
    answer = {
        "dry_run": dry_run,
        "lines": report.lines,
        "imported": report.imported,
        "errors": [error.model_dump() for error in report.errors],
        "more_errors": report.more_errors,
    }
    sentences = [f"line {error.line}: {error.field or 'the line'}: {error.detail}" for error in report.errors]
    if report.more_errors:
        sentences.append(f"and {report.more_errors} more errors")
    sentences.append(f"{report.imported} of {report.lines} lines {'can be' if dry_run else 'were'} imported")
    say("\n".join(sentences), answer, as_json=as_json)
    if report.errors:
        raise typer.Exit(1)


@app.command("export")
def export_accounts(
    file: File,
    with_hashes: Annotated[
        bool, typer.Option("--with-hashes", help="Include the password hashes, which have to be kept secret.")
    ] = False,
) -> None:
    """Write each account as a line of JSON, which `import` can read. Memory does not grow with their number.

    A file is there when all of it is written; until then one that was there before stays as it is.
    """

    async def run(database: Database, _settings: UsersSettings) -> None:
        written = 0
        with _written(file) as output, _progress("accounts", await transfer.count_accounts(database)) as advance:
            async for chunk in transfer.export_lines(database, with_hashes=with_hashes):
                output.writelines(chunk)
                written += len(chunk)
                advance(written)

    command_line.run(run)


def _ask_password() -> str:
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))


def _count_lines(file: Path) -> int | None:
    """Return how many lines a file has, or None where it can be read only once."""
    if not file.is_file():
        return None
    with file.open("rb") as lines:
        return sum(1 for _ in lines)


@contextlib.contextmanager
def _read(file: Path) -> Iterator[BinaryIO]:
    """Open a file, or standard input for `-`."""
    if str(file) == "-":
        yield sys.stdin.buffer
        return
    try:
        with file.open("rb") as opened:
            yield opened
    except OSError as error:
        command_line.fail(f"{file}: {error.strerror}")


@contextlib.contextmanager
def _written(file: Path) -> Iterator[IO[bytes]]:
    """Take what becomes a file that its owner alone can read, once all of it is there; standard output for `-`."""
    if str(file) == "-":
        yield sys.stdout.buffer
        sys.stdout.flush()
        return
    try:
        if file.exists() and not file.is_file():  # a pipe or a device: nothing can be put in its place
            with file.open("wb") as opened:
                yield opened
            return
        with written_whole(file.resolve()) as new:  # what a link leads to; the link stays
            yield new
    except OSError as error:
        command_line.fail(f"{file}: {error.strerror}")


@contextlib.contextmanager
def _progress(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show a bar on standard error, where somebody looks at it."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.update(task, completed=done)
