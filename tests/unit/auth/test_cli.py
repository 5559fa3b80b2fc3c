"""`pinhole-auth`, as an operator types it."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import pytest
from auth_service.cli import app
from auth_service.client_rows import digest
from auth_service.tables import ClientRow, SessionRow
from servicekit.database import Database, open_database
from servicekit.tokens import SigningKey
from sqlalchemy import select
from typer.testing import CliRunner

from tests.unit.auth.fake_users import ADA
from tests.unit.auth.test_sessions import sessions_in

T = TypeVar("T")
Run = Callable[..., Any]


@pytest.fixture
def run(database_url: str, monkeypatch: pytest.MonkeyPatch, restored_logging: None) -> Run:
    """Runs the command with arguments, beside a service that has been started."""

    async def look(_database: Database) -> None:
        return

    ask(database_url, look)
    monkeypatch.setenv("AUTH_DATABASE_URL", database_url)
    monkeypatch.setenv("AUTH_SIGNING_ALGORITHM", "ES256")
    return lambda *arguments: CliRunner().invoke(app, [str(part) for part in arguments])


def ask(database_url: str, question: Callable[[Database], Awaitable[T]]) -> T:
    async def run() -> T:
        async with open_database(database_url) as database:
            await database.migrate("auth_service")
            return await question(database)

    return asyncio.run(run())


def answer(result: Any) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def states_of(run: Run) -> dict[str, str]:
    return {key["kid"]: key["state"] for key in answer(run("keys", "--json"))["keys"]}


def assert_refused(result: Any, reason: str) -> None:
    assert result.exit_code == 2
    assert reason in result.stderr
    assert "Traceback" not in result.output


def test_keys_are_published_activated_and_revoked(run: Run) -> None:
    assert run("keys").stdout == "there are no keys yet\n"
    first = answer(run("rotate-keys", "--json"))["kid"]
    second = answer(run("rotate-keys", "--json"))["kid"]
    assert states_of(run) == {first: "published", second: "published"}
    run("rotate-keys", "--activate", first)
    assert states_of(run) == {first: "active", second: "published"}
    new = answer(run("rotate-keys", "--json"))["kid"]
    run("rotate-keys", "--activate", new)
    assert_refused(run("rotate-keys", "--activate", first), "was replaced by another one")
    run("rotate-keys", "--revoke", first)
    first = new
    assert run("rotate-keys", "--revoke", first).stdout == f"revoked {first}\n"
    assert states_of(run) == {second: "active"}
    assert second in run("keys").stdout


def test_a_key_may_sign_as_soon_as_all_know_it(run: Run) -> None:
    new = answer(run("rotate-keys", "--now", "--json"))
    (key,) = answer(run("keys", "--json"))["keys"]
    assert (new["kid"], new["done"]) == (key["kid"], "published")
    created_at, active_from = (datetime.fromisoformat(key[name]) for name in ("created_at", "active_from"))
    assert timedelta(seconds=2) < active_from - created_at < timedelta(seconds=4)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--activate", "nothing"), "no such signing key"),
        (("--revoke", "nothing"), "no such signing key"),
        (("--now", "--revoke", "nothing"), "exclude each other"),
    ],
)
def test_what_cannot_be_rotated_is_one_sentence(run: Run, arguments: tuple[str, ...], reason: str) -> None:
    assert_refused(run("rotate-keys", *arguments), reason)


def test_a_client_is_created_listed_rotated_and_deleted(run: Run, database_url: str) -> None:
    created = answer(run("clients", "create", "robot", "--name", "Robot", "--scope", "users:read", "--json"))
    rotated = answer(run("clients", "rotate-secret", "robot", "--json"))

    async def hashes(database: Database) -> set[bytes]:
        async with database.begin() as transaction:
            return {secret.hash for secret in (await transaction.get_one(ClientRow, "robot")).secrets}

    assert ask(database_url, hashes) == {digest(created["secret"]), digest(rotated["secret"])}
    listed = run("clients", "list", "--json")
    (client,) = answer(listed)["clients"]
    assert (client["id"], client["scopes"]) == ("robot", ["users:read"])
    assert created["secret"] not in listed.stdout
    old = client["secrets"][0]["id"]
    assert_refused(run("clients", "rotate-secret", "robot"), "two secrets work already")
    assert run("clients", "end-secret", "robot", old).stdout == f"ended {old}\n"
    assert "robot" in run("clients", "list").stdout
    assert run("clients", "delete", "robot").stdout == "deleted robot\n"
    assert run("clients", "list").stdout == "there are no clients\n"


def test_a_client_that_signs_has_no_secret(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps({"keys": [SigningKey.generate("ES256").public_document]}))
    options = ("--name", "x", "--scope", "users:read", "--auth-method", "private_key_jwt")
    assert answer(run("clients", "create", "signer", *options, "--jwks", file, "--json"))["secret"] is None
    pod = answer(run("clients", "create", "pod", *options, "--service-account", "reports:nightly", "--json"))
    assert pod["secret"] is None
    file.write_text("[]")
    assert_refused(run("clients", "create", "other", *options, "--jwks", file), "expected a JWK set")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("create", "Robot", "--name", "x", "--scope", "users:read"), "id: "),
        (("create", "pinhole-web", "--name", "x", "--scope", "users:read"), "taken"),
        (("create", "robot", "--name", "x", "--scope", "everything"), "scopes: "),
        (("create", "robot", "--name", "x", "--scope", "profile", "--grant-type", "password"), "first-party"),
        (("rotate-secret", "nobody"), "no such client"),
        (("end-secret", "nobody", ADA), "no such client"),
        (("delete", "nobody"), "no such client"),
    ],
)
def test_what_cannot_be_done_to_clients_is_one_sentence(run: Run, arguments: tuple[str, ...], reason: str) -> None:
    result = run("clients", *arguments)
    assert_refused(result, reason)
    assert result.stderr.count("\n") == 1


def test_what_a_command_changes_is_in_the_audit_log_and_no_secret_is(
    run: Run, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def sign_in(database: Database) -> None:
        await sessions_in(database).start(subject=ADA, client_id="pinhole-web", scopes=frozenset({"profile"}))

    ask(database_url, sign_in)
    monkeypatch.setenv("LOG_FORMAT", "json")
    written: list[str] = []

    def audited(*arguments: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        result = run(*arguments, "--json")
        written.append(result.stderr)
        return answer(result), [json.loads(line) for line in result.stderr.splitlines()]

    published, (made,) = audited("rotate-keys")
    assert (made["event"], made["key_id"]) == ("signing_key_created", published["kid"])
    _, (activated,) = audited("rotate-keys", "--activate", published["kid"])
    assert (activated["event"], activated["key_id"]) == ("signing_key_activated", published["kid"])
    _, (revoked,) = audited("rotate-keys", "--revoke", published["kid"])
    assert (revoked["event"], revoked["key_id"]) == ("signing_key_revoked", published["kid"])
    created, (registered,) = audited("clients", "create", "robot", "--name", "Robot", "--scope", "users:read")
    assert (registered["event"], registered["client_id"]) == ("client_registered", "robot")
    another, (added,) = audited("clients", "rotate-secret", "robot")
    assert (added["event"], added["client_id"]) == ("client_secret_added", "robot")
    _, (given_up,) = audited("clients", "end-secret", "robot", another["id"])
    assert (given_up["event"], given_up["client_id"]) == ("client_secret_ended", "robot")
    _, (deleted,) = audited("clients", "delete", "robot")
    assert (deleted["event"], deleted["client_id"]) == ("client_deleted", "robot")
    _, (ended,) = audited("sessions", "end", "--user", ADA)
    assert ended["event"] == "session_ended"
    for line in (made, activated, revoked, registered, added, given_up, deleted, ended):
        assert (line["audit"], line["actor"], line["service"]) == (True, "pinhole-auth", "auth")
    for secret in (created["secret"], another["secret"]):
        assert secret not in "".join(written)
    assert audited("clients", "list")[1] == [], "who reads changes nothing"


def test_somebody_is_signed_out_everywhere(run: Run, database_url: str) -> None:
    async def sign_in(database: Database) -> None:
        for subject in (ADA, ADA, str(uuid4())):
            await sessions_in(database).start(subject=subject, client_id="pinhole-web", scopes=frozenset({"profile"}))

    async def live(database: Database) -> int:
        async with database.begin() as transaction:
            return len((await transaction.scalars(select(SessionRow).where(SessionRow.ended_at.is_(None)))).all())

    ask(database_url, sign_in)
    assert len(answer(run("sessions", "list", "--user", ADA, "--json"))["sessions"]) == 2
    assert answer(run("sessions", "end", "--user", ADA, "--json")) == {"ended": 2}
    assert run("sessions", "list", "--user", ADA).stdout == "no session goes on\n"
    assert run("sessions", "end", "--user", ADA).stdout == "0 sessions have ended\n"
    assert ask(database_url, live) == 1
