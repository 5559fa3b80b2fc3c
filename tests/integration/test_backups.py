"""Backups and restores, by the commands of docs/backups.md and with real services before and after."""

import asyncio
import base64
import os
import re
import socket
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from cryptography.fernet import Fernet

from tests.eventually import wait_until
from tests.integration.identity import ADMIN_PASSWORD, serving, wait_until_ready
from tests.postgres import Postgres

PAGE = Path(__file__).parents[2] / "docs" / "backups.md"
SERVICES = ("auth", "users")
PASSWORD = "correct horse of everybody"
SEAL = Fernet.generate_key().decode()
LAST_LINE = "UPDATE sessions"


def commands(marker: str) -> str:
    """Return the block of the page under a marker."""
    block = re.search(rf"<!-- {marker} -->\n```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert block
    return block[1]


def shell(script: str, folder: Path, variables: Mapping[str, str]) -> str:
    path = os.pathsep.join([str(Path(sysconfig.get_path("scripts"))), os.environ["PATH"]])
    run = subprocess.run(
        ["sh", "-euc", script],
        cwd=folder,
        env={**os.environ, **variables, "PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


@dataclass(frozen=True)
class Product:
    """Running services, and what their users do."""

    auth: httpx.Client
    users: httpx.Client
    log: Callable[[], str]

    def sign_up(self, name: str) -> str:
        body = {"username": name, "email": f"{name}@example.com", "password": PASSWORD}
        return str(self.users.post("/users", json=body).raise_for_status().json()["id"])

    def token(self, name: str, password: str = PASSWORD) -> httpx.Response:
        return self.auth.post("/token", data={"grant_type": "password", "username": name, "password": password})

    def sign_in(self, name: str, password: str = PASSWORD) -> dict[str, Any]:
        tokens: dict[str, Any] = self.token(name, password).raise_for_status().json()
        return tokens

    def refresh(self, tokens: Mapping[str, Any]) -> httpx.Response:
        return self.auth.post("/token", data={"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]})

    def sign_out(self, tokens: Mapping[str, Any]) -> None:
        self.auth.post("/oauth2/revoke", data={"token": tokens["refresh_token"]}).raise_for_status()

    def disable(self, account_id: str) -> None:
        headers = {"Authorization": f"Bearer {self.sign_in('admin', ADMIN_PASSWORD)['access_token']}"}
        self.users.patch(f"/users/{account_id}", json={"disabled": True}, headers=headers).raise_for_status()


@contextmanager
def product(variables: Mapping[str, str], folder: Path) -> Iterator[Product]:
    """Run auth and users until the end."""
    with ExitStack() as stack:
        ports = {}
        for name in SERVICES:
            with socket.create_server(("127.0.0.1", 0)) as free:
                ports[name] = free.getsockname()[1]
        own = {
            "AUTH_USERS_URL": f"http://127.0.0.1:{ports['users']}",
            "USERS_AUTH_URL": f"http://127.0.0.1:{ports['auth']}",
            "USERS_ADMIN_PASSWORD": ADMIN_PASSWORD,
            "USERS_SIGN_UP": "open",
            "AUTH_KEY_ENCRYPTION_KEYS": SEAL,
            "AUTH_REFRESH_GRACE_SECONDS": "0",
            "LOG_LEVEL": "INFO",
        }
        logs = [folder / f"{name}.{ports[name]}.log" for name in SERVICES]
        running = [
            stack.enter_context(serving(f"{name}_service.main:create_app", ports[name], {**own, **variables}, log))
            for name, log in zip(SERVICES, logs, strict=True)
        ]
        for process in running:
            wait_until_ready(process)
        auth, users = (stack.enter_context(httpx.Client(base_url=process.url, timeout=60)) for process in running)
        yield Product(auth, users, lambda: "".join(log.read_text() for log in logs))


@pytest.fixture
def variables(postgres: Postgres) -> Iterator[dict[str, str]]:
    """What the commands and the services are told of two empty databases, each of a role of its name."""

    async def run(*statements: str) -> None:
        connection = await asyncpg.connect(user="postgres", database="postgres", host=str(postgres.folder))
        for statement in statements:
            await connection.execute(statement)
        await connection.close()

    asyncio.run(run(*(f"CREATE ROLE {name} LOGIN" for name in SERVICES)))
    asyncio.run(run(*(f"CREATE DATABASE {name} OWNER {name}" for name in SERVICES)))
    yield {
        "PGHOST": str(postgres.folder),
        "PGUSER": "postgres",
        **{
            f"{name.upper()}_DATABASE_URL": f"postgresql+asyncpg://{name}@/{name}?host={postgres.folder}"
            for name in SERVICES
        },
    }
    drops = [f"DROP DATABASE IF EXISTS {name}{part} WITH (FORCE)" for name in SERVICES for part in ("", "_before")]
    asyncio.run(run(*drops, *(f"DROP ROLE {name}" for name in SERVICES)))


def test_both_are_restored_and_everybody_signs_in_again(variables: Mapping[str, str], tmp_path: Path) -> None:
    with product(variables, tmp_path) as before:
        before.sign_up("ada")
        kept, given_up = before.sign_in("ada"), before.sign_in("ada")
        shell(commands("back up"), tmp_path, variables)
        before.sign_out(given_up)
        before.sign_up("eve")
        before.sign_in("eve")
    assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("*.dump")} == {0o600}

    shell(commands("restore"), tmp_path, variables)
    verified = shell(commands("verify"), tmp_path, variables).splitlines()
    head = (tmp_path / "users.head").read_text().strip()
    sequence, digest = head.split("|")
    assert verified == [f"{sequence} events are as they were written; the last has {digest}", head]

    with product(variables, tmp_path) as after:
        assert [after.refresh(tokens).status_code for tokens in (kept, given_up)] == [400, 400]
        assert after.token("eve").status_code == 400
        tokens = after.sign_in("ada")
        me = after.users.get("/users/me", headers={"Authorization": f"Bearer {tokens['access_token']}"})
        assert me.json()["username"] == "ada"


def test_without_the_last_line_the_sessions_are_those_of_the_backup(
    variables: Mapping[str, str], tmp_path: Path
) -> None:
    with product(variables, tmp_path) as before:
        before.sign_up("ada")
        given_up, refreshed = before.sign_in("ada"), before.sign_in("ada")
        shell(commands("back up"), tmp_path, variables)
        before.sign_out(given_up)
        newer = before.refresh(refreshed).json()
    restore = "".join(line for line in commands("restore").splitlines(keepends=True) if LAST_LINE not in line)
    shell(restore, tmp_path, variables)
    with product(variables, tmp_path) as after:
        statuses = [after.refresh(tokens).status_code for tokens in (newer, given_up, refreshed)]
        assert statuses == [400, 200, 200]


def test_accounts_and_keys_are_as_they_were(variables: Mapping[str, str], tmp_path: Path) -> None:
    def reads(running: Product, tokens: Mapping[str, Any]) -> int:
        headers = {"Authorization": f"Bearer {tokens['access_token']}"}
        return running.users.get("/users/me", headers=headers).status_code

    def rotate(*options: str) -> str:
        command = f"pinhole-auth rotate-keys --json {' '.join(options)}"
        return shell(command, tmp_path, {**variables, "AUTH_KEY_ENCRYPTION_KEYS": SEAL})

    with product(variables, tmp_path) as before:
        before.sign_up("ada")
        disabled = before.sign_up("bob")
        kid = before.auth.get("/.well-known/jwks.json").json()["keys"][0]["kid"]
        shell(commands("back up"), tmp_path, variables)
        before.disable(disabled)
        by_the_kept_key = before.sign_in("ada")
        rotate("--now")
        wait_until(
            lambda: reads(before, newer := before.sign_in("ada")) == 200 and kid not in _header(newer),
            within_seconds=30,
        )
        by_a_newer_key = before.sign_in("ada")
        rotate("--revoke", kid)
        wait_until(lambda: reads(before, by_the_kept_key) == 401, within_seconds=30)
    shell(commands("restore"), tmp_path, variables)
    with product(variables, tmp_path) as after:
        assert after.token("bob").status_code == 200
        assert kid in _header(after.sign_in("ada"))
        assert [reads(after, tokens) for tokens in (by_the_kept_key, by_a_newer_key)] == [200, 401]
        rotate("--revoke", kid)
        wait_until(lambda: reads(after, by_the_kept_key) == 401, within_seconds=30)


def _header(tokens: Mapping[str, Any]) -> str:
    part = str(tokens["access_token"]).partition(".")[0]
    return base64.urlsafe_b64decode(part + "==").decode()


def restore_alone(name: str) -> str:
    """Return the commands that restore one of the two."""
    lines = commands("restore").replace("for name in auth users", f"for name in {name}").splitlines(keepends=True)
    return "".join(line for line in lines if LAST_LINE not in line)


def test_users_alone_takes_auth_back_with_it(variables: Mapping[str, str], tmp_path: Path) -> None:
    with product(variables, tmp_path) as before:
        before.sign_up("ada")
        early = before.sign_in("ada")
        shell(commands("back up"), tmp_path, variables)
        for number in range(3):
            before.sign_up(f"later{number}")
        late = before.sign_in("ada")
        time.sleep(2)  # auth has read of it
    shell(restore_alone("users"), tmp_path, variables)
    with product(variables, tmp_path) as after:
        wait_until(lambda: "account_events_went_back" in after.log(), within_seconds=30)
        assert [after.refresh(tokens).status_code for tokens in (early, late)] == [200, 400]


def test_auth_alone_catches_up_with_users(variables: Mapping[str, str], tmp_path: Path) -> None:
    with product(variables, tmp_path) as before:
        account_id = before.sign_up("ada")
        before.sign_up("bob")
        of_ada, of_bob = before.sign_in("ada"), before.sign_in("bob")
        shell(commands("back up"), tmp_path, variables)
        before.disable(account_id)
    shell(restore_alone("auth"), tmp_path, variables)
    with product(variables, tmp_path) as after:
        wait_until(lambda: "session_ended" in after.log(), within_seconds=30)
        assert [after.refresh(tokens).status_code for tokens in (of_ada, of_bob)] == [400, 200]


def test_without_the_key_that_sealed_them_the_signing_keys_have_to_go(
    variables: Mapping[str, str], tmp_path: Path
) -> None:
    with product(variables, tmp_path) as before:
        before.sign_up("ada")
        tokens = before.sign_in("ada")
    other = {**variables, "AUTH_KEY_ENCRYPTION_KEYS": Fernet.generate_key().decode()}
    with (
        pytest.raises(TimeoutError, match="the key that signs now is sealed with none of AUTH_KEY_ENCRYPTION_KEYS"),
        product(other, tmp_path),
    ):
        pass
    shell("psql --command='DELETE FROM signing_keys' auth", tmp_path, variables)
    with product(other, tmp_path) as after:
        headers = {"Authorization": f"Bearer {tokens['access_token']}"}
        assert after.auth.get("/sessions", headers=headers).status_code == 401
        assert after.refresh(tokens).status_code == 200


def test_the_files_of_a_laptop_are_copied_whole_and_put_back(tmp_path: Path) -> None:
    folder = tmp_path / ".pinhole"
    folder.mkdir()
    variables = {f"{name.upper()}_DATABASE_URL": f"sqlite+aiosqlite:///{folder}/{name}.db" for name in SERVICES}
    with product(variables, tmp_path) as before:
        before.sign_up("ada")
        early = before.sign_in("ada")
        shell(commands("back up sqlite"), tmp_path, variables)
        before.sign_up("eve")
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "backup").iterdir()} == {0o600}
    shell(commands("restore sqlite"), tmp_path, variables)
    assert shell("pinhole-users verify-audit", tmp_path, variables).startswith("2 events are as they were written")
    with product(variables, tmp_path) as after:
        assert after.refresh(early).status_code == 200
        assert after.token("eve").status_code == 400
