"""What every command line does of a database that is not there."""

import socket
from pathlib import Path

import auth_service.cli
import pytest
import users_service.cli
from typer.testing import CliRunner

from tests.unit.users.driver import PASSWORD

APPS = {"auth": auth_service.cli.app, "users": users_service.cli.app}


@pytest.mark.parametrize(
    ("service", "arguments"),
    [
        ("auth", ("keys",)),
        ("users", ("create-admin", "root", "root@example.com", "--password-stdin")),
        ("users", ("verify-audit",)),
        ("users", ("export", "-")),
    ],
)
def test_no_database_is_made_where_no_service_has_one(
    service: str, arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restored_logging: None
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(APPS[service], arguments, input=f"{PASSWORD}\n")
    path = tmp_path / ".pinhole" / f"{service}.db"
    variable = f"{service.upper()}_DATABASE_URL"
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f"pinhole-{service}: there is no database {path}: name that of the service with {variable}\n"
    )
    assert not path.parent.exists()


@pytest.mark.parametrize(("service", "arguments"), [("auth", ("keys",)), ("users", ("export", "-"))])
def test_a_server_that_is_away_is_one_sentence_without_the_password(
    service: str, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, restored_logging: None
) -> None:
    variable = f"{service.upper()}_DATABASE_URL"
    with socket.socket() as taken:  # and nobody listens
        taken.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{taken.getsockname()[1]}/{service}"
        monkeypatch.setenv(variable, f"postgresql+asyncpg://ada:hunter2@{where}")
        result = CliRunner().invoke(APPS[service], arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"cannot reach the database postgresql+asyncpg://ada:***@{where} of {variable}: " in result.stderr
    assert result.stderr.count("\n") == 1
    assert "hunter2" not in result.stderr
