"""Configuration from the environment."""

from pathlib import Path

import pytest
from servicekit.settings import load_settings
from users_service.settings import UsersSettings


def test_the_defaults_are_safe() -> None:
    settings = load_settings(UsersSettings)
    assert settings.sign_up == "admin"
    assert settings.admin_password is None
    assert settings.database_url == "sqlite+aiosqlite:///.pinhole/users.db"
    assert settings.migrate_at_start


def test_the_first_password_comes_from_a_file_and_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "password").write_text("from the file\n")
    monkeypatch.setenv("USERS_ADMIN_PASSWORD_FILE", str(tmp_path / "password"))
    settings = load_settings(UsersSettings)
    assert settings.admin_password is not None
    assert settings.admin_password.get_secret_value() == "from the file"
    assert "from the file" not in repr(settings)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("USERS_SIGN_UP", "everybody"),
        ("USERS_ADMIN_PASSWORD", "short"),
        ("USERS_ADMIN_PASSWORD", "password123"),
        ("USERS_PASSWORD_MIN_SCORE", "5"),
        ("USERS_ADMIN_USERNAME", "a b"),
        ("USERS_ADMIN_EMAIL", "nowhere"),
        ("USERS_HASH_WORKERS", "0"),
        ("USERS_HASH_QUEUE_SIZE", "-1"),
    ],
)
def test_a_bad_value_stops_the_start_with_its_variable(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SystemExit, match=f"{variable}: ") as stop:
        load_settings(UsersSettings)
    assert value not in str(stop.value).replace(variable, "") or len(value) < 3
