"""What the tests send to auth, and what they read from its answers."""

import base64
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime, timedelta, tzinfo
from typing import Any, Literal

import httpx
import pytest
import servicekit.database
from auth_service.settings import AuthSettings
from auth_service.tables import RefreshTokenRow, SessionRow
from servicekit.database import open_database
from servicekit.tokens import Claims, PublicKey, TokenVerifier
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from tests.issuer import AUDIENCE, ISSUER
from tests.unit.auth.fake_users import PASSWORD


async def sign_in(client: httpx.AsyncClient, username: str = "ada", **form: str) -> httpx.Response:
    form = {"grant_type": "password", "username": username, "password": PASSWORD, **form}
    return await client.post("/token", data=form)


async def refresh(client: httpx.AsyncClient, refresh_token: str, **form: str) -> httpx.Response:
    form = {"grant_type": "refresh_token", "refresh_token": refresh_token, **form}
    return await client.post("/token", data=form)


async def signed_in(client: httpx.AsyncClient, username: str = "ada", **form: str) -> str:
    """Sign in and return the refresh token."""
    response = await sign_in(client, username, **form)
    assert response.status_code == 200, response.text
    return str(response.json()["refresh_token"])


def bearer(tokens: Mapping[str, Any]) -> dict[str, str]:
    """Return the request headers of who got `tokens`."""
    return {"Authorization": f"Bearer {tokens['access_token']}"}


def basic(credentials: str) -> dict[str, str]:
    """Return the request headers of a client with `id:secret`."""
    return {"Authorization": f"Basic {base64.b64encode(credentials.encode()).decode()}"}


async def register(client: httpx.AsyncClient, client_id: str = "nightly", **fields: Any) -> dict[str, Any]:
    """Register a client as the administrator, and return the answer."""
    root = bearer((await sign_in(client, "root")).json())
    body = {"id": client_id, "name": "Nightly report", "scopes": ["users:read"], **fields}
    response = await client.post("/clients", json=body, headers=root)
    assert response.status_code == 201, response.text
    document: dict[str, Any] = response.json()
    return document


async def ask_as_client(client: httpx.AsyncClient, credentials: str, **form: str) -> httpx.Response:
    """Ask for a token of a client's own, with `id:secret`."""
    return await client.post("/token", data={"grant_type": "client_credentials", **form}, headers=basic(credentials))


async def revoke(client: httpx.AsyncClient, token: str, **form: str) -> httpx.Response:
    return await client.post("/oauth2/revoke", data={"token": token, **form})


def assert_oauth_error(response: httpx.Response, status: int, error: str) -> None:
    """Check everything that an OAuth client reads of an error."""
    body = response.json()
    assert (response.status_code, body["error"]) == (status, error), response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["pragma"] == "no-cache"
    assert body.keys() == {"error", "error_description"}
    assert all(" " <= character <= "~" and character not in '"\\' for character in body["error_description"])
    if status == 401:
        assert response.headers["www-authenticate"].startswith("Basic ")


class PublishedKeys:
    """The keys of a JWK set, as a verifier looks them up."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._keys = {key["kid"]: PublicKey(key) for key in document["keys"]}

    async def get(self, key_id: str) -> PublicKey | None:
        return self._keys.get(key_id)


async def verified(client: httpx.AsyncClient, token: str) -> Claims:
    """Return what `token` says to a service that has the published keys."""
    document = (await client.get("/.well-known/jwks.json")).json()
    return await TokenVerifier(PublishedKeys(document), issuer=ISSUER, audience=AUDIENCE).verify(token)


@contextmanager
def clock_off(by: timedelta) -> Iterator[None]:
    """Let the clock of this process, but for that of the tokens, be wrong."""

    class Wrong(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + by

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(servicekit.database, "datetime", Wrong)
        yield


@asynccontextmanager
async def stored(settings: AuthSettings) -> AsyncIterator[AsyncSession]:
    """Yield a transaction on the database of a service, whether it runs or not."""
    async with open_database(settings.database_url) as database, database.sessions.begin() as transaction:
        yield transaction


async def somebody_waits(settings: AuthSettings) -> bool:
    """Tell whether a transaction waits for a lock; PostgreSQL alone says."""
    async with stored(settings) as transaction:
        return bool(await transaction.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")))


async def let_pass(settings: AuthSettings, time: timedelta, *, of: Literal["uses", "sessions"] = "uses") -> None:
    """Make it `time` later for what is stored: the uses of refresh tokens, or whole sessions."""
    async with stored(settings) as transaction:
        for row in await transaction.scalars(select(RefreshTokenRow).where(RefreshTokenRow.used_at.is_not(None))):
            assert row.used_at is not None
            row.used_at -= time
        if of == "sessions":
            for session in await transaction.scalars(select(SessionRow)):
                session.created_at -= time
                session.last_used_at -= time
                session.expires_at -= time
