"""Configuration: defaults, and what a bad value says."""

import pytest
from auth_service.settings import AuthSettings
from cryptography.fernet import Fernet
from servicekit.settings import load_settings


def test_the_defaults_need_no_server() -> None:
    settings = load_settings(AuthSettings)
    assert settings.database_url == "sqlite+aiosqlite:///.pinhole/auth.db"
    assert settings.users_url == "http://127.0.0.1:8002"
    assert (settings.signing_algorithm, settings.access_token_seconds) == ("RS256", 900)
    assert (settings.refresh_grace_seconds, settings.migrate_at_start) == (30, True)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("AUTH_DATABASE_URL", "mysql://somewhere"),
        ("AUTH_DATABASE_URL", "sqlite:///file.db"),
        ("AUTH_USERS_URL", "127.0.0.1:8002"),
        ("AUTH_SIGNING_ALGORITHM", "HS256"),
        ("AUTH_ACCESS_TOKEN_SECONDS", "0"),
        ("AUTH_REFRESH_GRACE_SECONDS", "-1"),
        ("AUTH_KEY_ROTATION_DAYS", "-1"),
        ("AUTH_KEY_ENCRYPTION_KEYS", "a secret"),
        ("AUTH_CLUSTER_JWKS_URL", "kubernetes.default.svc"),
        ("AUTH_CLUSTER_CA_FILE", "/nowhere/ca.crt"),
        ("AUTH_CLUSTER_TOKEN_FILE", "/nowhere/token"),
    ],
)
def test_a_bad_value_stops_the_start_with_its_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SystemExit, match=variable):
        load_settings(AuthSettings)


def test_lifetimes_that_contradict_each_other_stop_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTH_REFRESH_IDLE_SECONDS", "60")
    with pytest.raises(SystemExit, match="AUTH_ACCESS_TOKEN_SECONDS <= AUTH_REFRESH_IDLE_SECONDS"):
        load_settings(AuthSettings)


def test_encryption_keys_are_read_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [Fernet.generate_key().decode() for _ in range(2)]
    monkeypatch.setenv("AUTH_KEY_ENCRYPTION_KEYS", ", ".join(keys))
    settings = load_settings(AuthSettings)
    assert settings.key_encryption_keys.get_secret_value() == tuple(keys)
    assert keys[0] not in repr(settings)
