"""Configuration: where values come from, and what a bad one says."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import PositiveInt, SecretStr
from pydantic_settings import SettingsConfigDict
from servicekit.settings import ServiceSettings, load_settings


class Settings(ServiceSettings):
    """A service with a number and a secret."""

    model_config = SettingsConfigDict(env_prefix="SAMPLE_")
    service = "sample"

    workers: PositiveInt = 2
    key: SecretStr | None = None
    places: Mapping[str, str] | None = None


def test_values_come_from_prefixed_variables_and_shared_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMPLE_WORKERS", "3")
    monkeypatch.setenv("LOG_LEVEL", "DEBUG")
    settings = load_settings(Settings)
    assert (settings.workers, settings.log_level, settings.log_format) == (3, "DEBUG", "json")


@pytest.mark.parametrize(
    ("variable", "value"), [("SAMPLE_WORKERS", "0"), ("SAMPLE_WORKERS", "many"), ("LOG_LEVEL", "LOUD")]
)
def test_a_bad_value_stops_with_the_variable_and_what_was_expected(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SystemExit) as stopped:
        load_settings(Settings)
    message = str(stopped.value)
    assert f"{variable}: Input should be" in message
    assert value == "0" or value not in message


def test_a_secret_is_read_from_the_file_that_a_variable_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text("from a file\n")
    monkeypatch.setenv("SAMPLE_KEY_FILE", str(tmp_path / "key"))
    settings = load_settings(Settings)
    assert settings.key == SecretStr("from a file")
    assert "from a file" not in repr(settings)


def test_a_file_that_is_not_there_stops_with_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMPLE_KEY_FILE", "/nowhere/key")
    with pytest.raises(SystemExit, match="SAMPLE_KEY_FILE: cannot read /nowhere/key: No such file"):
        load_settings(Settings)


def test_all_that_is_bad_is_said_at_once_and_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMPLE_WORKERS", "some")
    monkeypatch.setenv("SAMPLE_KEY_FILE", "/nowhere/key")
    monkeypatch.setenv("LOG_LEVEL", "LOUD")
    with pytest.raises(SystemExit) as stopped:
        load_settings(Settings)
    first, *lines = str(stopped.value).splitlines()
    assert first == "bad configuration"
    assert sorted(lines) == [
        "  LOG_LEVEL: Input should be 'DEBUG', 'INFO', 'WARNING' or 'ERROR'",
        "  SAMPLE_KEY_FILE: cannot read /nowhere/key: No such file or directory",
        "  SAMPLE_WORKERS: Input should be a valid integer, unable to parse string as an integer",
    ]


def test_what_should_be_json_and_is_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMPLE_PLACES", "{here")
    with pytest.raises(SystemExit) as stopped:
        load_settings(Settings)
    assert "\n  SAMPLE_PLACES: " in str(stopped.value)
    assert "{here" not in str(stopped.value)


@pytest.mark.parametrize(
    ("variable", "name", "reason"),
    [
        ("SAMPLE_KEY_FILE", "key", "SAMPLE_KEY_FILE: .*/key is not UTF-8"),
        ("SAMPLE_SECRETS_DIR", "sample_key", 'error getting value for field "key"'),
    ],
)
def test_a_file_that_is_no_text_stops_in_a_sentence(
    variable: str, name: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / name
    file.write_bytes("as Windows writes it".encode("utf-16"))
    monkeypatch.setenv(variable, str(file if variable.endswith("_FILE") else tmp_path))
    with pytest.raises(SystemExit, match=reason):
        load_settings(Settings)


def test_secrets_are_read_from_a_mounted_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sample_key").write_text("mounted\n")
    monkeypatch.setenv("SAMPLE_SECRETS_DIR", str(tmp_path))
    assert load_settings(Settings).key == SecretStr("mounted")


def test_a_variable_wins_over_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text("file")
    monkeypatch.setenv("SAMPLE_KEY_FILE", str(tmp_path / "key"))
    monkeypatch.setenv("SAMPLE_KEY", "variable")
    assert load_settings(Settings).key == SecretStr("variable")


def test_settings_do_not_change() -> None:
    settings: Any = Settings()
    with pytest.raises(ValueError, match="frozen"):
        settings.workers = 5
