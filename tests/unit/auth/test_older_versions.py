"""A service of an earlier version goes on beside this one: it writes the columns that it knows."""

import base64
import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

import pytest
from auth_service.main import create_app
from auth_service.tables import (
    AccountEnding,
    AccountFeed,
    Base,
    ClientAssertionRow,
    ClientRow,
    ClientSecretRow,
    RefreshTokenRow,
    SessionRow,
    SigningKeyRow,
)
from servicekit.database import Database, open_database, utc_now
from servicekit.tokens import SigningKey

from tests.asgi import running
from tests.older_versions import Row, migrated_past, older_revisions, stored
from tests.unit.auth.conftest import auth_settings
from tests.unit.auth.fake_users import ADA, FakeUsers
from tests.unit.auth.requests import ask_as_client, assert_oauth_error, bearer, refresh, revoke, verified

PACKAGE = "auth_service"
KEY = SigningKey.generate("ES256")
SESSION, SECRET = UUID(int=1), UUID(int=2)
NOW = utc_now()
LATER = NOW + timedelta(days=1)
REFRESH_TOKEN = base64.urlsafe_b64encode(b"r" * 32).rstrip(b"=").decode()

# What is stored of each kind, and what of it is changed then.
ROWS: dict[type[Base], tuple[Row, Row]] = {
    SigningKeyRow: (
        {
            "id": KEY.key_id,
            "algorithm": KEY.algorithm,
            "private_pem": KEY.pem,
            "public_jwk": KEY.public_document,
            "created_at": NOW,
            "active_from": None,
            "revoked_at": None,
        },
        {"created_at": NOW - timedelta(hours=1)},
    ),
    SessionRow: (
        {
            "id": SESSION,
            "subject": ADA,
            "client_id": "pinhole-web",
            "scope": "inference:predict profile",
            "device": "a browser",
            "credential_id": None,
            "successor_secret": b"s" * 32,
            "events_seen": 0,
            "access_token_seconds": 900,
            "created_at": NOW,
            "last_used_at": NOW,
            "expires_at": LATER,
            "ended_at": None,
        },
        {"last_used_at": NOW + timedelta(seconds=1)},
    ),
    RefreshTokenRow: (
        {
            "hash": hashlib.sha256(REFRESH_TOKEN.encode()).digest(),
            "session_id": SESSION,
            "created_at": NOW,
            "used_at": NOW,
        },
        {"used_at": None},
    ),
    ClientRow: (
        {
            "id": "nightly",
            "name": "Nightly report",
            "grant_types": "client_credentials",
            "scope": "users:read",
            "token_endpoint_auth_method": "client_secret_basic",
            "first_party": False,
            "jwks": None,
            "jwks_uri": None,
            "service_account": None,
            "key_credential_id": None,
            "is_configured": False,
            "created_at": NOW,
        },
        {"name": "Nightly", "scope": "inference:predict users:read"},
    ),
    ClientSecretRow: (
        {
            "id": SECRET,
            "client_id": "nightly",
            "hash": hashlib.sha256(b"a secret").digest(),
            "created_at": NOW,
            "expires_at": None,
        },
        {"expires_at": LATER},
    ),
    AccountEnding: ({"sequence": 9, "subject": "somebody else", "at": NOW}, {"subject": "somebody"}),
    ClientAssertionRow: ({"hash": b"h" * 32, "expires_at": LATER}, {"expires_at": NOW}),
}


@pytest.fixture
async def database(empty_database_url: str) -> AsyncIterator[Database]:
    async with open_database(empty_database_url) as database:
        yield database


def test_no_table_is_missing() -> None:
    models: list[type[Base]] = [*ROWS, AccountFeed]
    assert {model.__tablename__ for model in models} == set(Base.metadata.tables)
    for model, (row, _) in ROWS.items():
        assert set(row) == set(model.__table__.columns.keys())


@pytest.mark.parametrize("revision", older_revisions(PACKAGE))
async def test_what_an_older_version_writes_is_read_as_it_was_meant(
    empty_database_url: str, users: FakeUsers, database: Database, revision: str
) -> None:
    older = await migrated_past(database, PACKAGE, revision)
    known = [model for model in ROWS if older.knows(model)]
    for model in known:
        row, changes = ROWS[model]
        await older.insert(model, row)
        assert (await stored(database, model)).items() >= older.of(model, row).items()
        await older.update(model, changes)
        assert (await stored(database, model)).items() >= older.of(model, {**row, **changes}).items()
    if older.knows(AccountFeed):
        await older.update(AccountFeed, {"sequence": 7})
        assert await stored(database, AccountFeed) == {"id": 1, "sequence": 7}
        await older.update(AccountFeed, {"sequence": 0})

    async with running(create_app(auth_settings(empty_database_url, users))) as client:
        tokens = (await refresh(client, REFRESH_TOKEN)).json()
        claims = await verified(client, tokens["access_token"])
        assert (claims.subject, claims.session_id) == (ADA, str(SESSION))
        documents = (await client.get("/.well-known/jwks.json")).json()["keys"]
        assert [document["kid"] for document in documents] == [KEY.key_id], "a key of the older version signs"
        (session,) = (await client.get("/sessions", headers=bearer(tokens))).json()["sessions"]
        assert session["id"] == str(SESSION)
        if ClientRow in known:
            answer = await ask_as_client(client, "nightly:a secret")
            assert answer.json()["scope"] == "inference:predict users:read"
        await older.update(SessionRow, {"ended_at": NOW})
        assert_oauth_error(await refresh(client, tokens["refresh_token"]), 400, "invalid_grant")
        assert (await client.get("/sessions", headers=bearer(tokens))).status_code == 401
        assert (await revoke(client, tokens["refresh_token"])).status_code == 200
