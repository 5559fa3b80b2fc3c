"""Runs the users service in this process and speaks to it as different callers."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from fastapi import FastAPI
from servicekit.database import Database
from sqlalchemy import text
from users_service.access import ADMINISTRATION
from users_service.main import create_app
from users_service.settings import UsersSettings

from tests.asgi import running
from tests.issuer import Issuer

PASSWORD = "correct horse battery staple"
NOBODY = "00000000-0000-7000-8000-000000000000"


def users_settings(database_url: str, issuer: Issuer, **changes: Any) -> UsersSettings:
    """Return the settings of a service that takes the tokens of `issuer`."""
    return UsersSettings(**{"database_url": database_url, "auth_url": issuer.url} | changes)


@dataclass
class Users:
    """A running users service."""

    app: FastAPI
    http: httpx.AsyncClient
    issuer: Issuer

    @property
    def admin(self) -> Mapping[str, str]:
        """The headers of a caller who may do everything with accounts, and has none."""
        return self.issuer.bearer(scope=" ".join(sorted(ADMINISTRATION)))

    @property
    def auth(self) -> Mapping[str, str]:
        """The headers of the auth service."""
        return self.issuer.bearer(subject="auth", scope="internal:accounts")

    def own(self, account: Mapping[str, Any], scope: str = "profile") -> Mapping[str, str]:
        """Return the headers of the user of `account`."""
        return self.issuer.bearer(subject=account["id"], scope=scope)

    async def create(self, username: str, **fields: Any) -> dict[str, Any]:
        """Create an account as an administrator and return it."""
        body = {"username": username, "email": f"{username}@example.com"} | fields
        response = await self.http.post("/users", json=body, headers=self.admin)
        assert response.status_code == 201, response.text
        account: dict[str, Any] = response.json()
        return account

    async def sign_in(self, username: str, password: str = PASSWORD) -> Any:
        """Return whom the service lets in with these credentials and with which roles, or None."""
        response = await self.http.post(
            "/internal/credentials/verify", json={"username": username, "password": password}, headers=self.auth
        )
        assert response.status_code == 200, response.text
        account = response.json()["account"]
        return account and {name: account[name] for name in ("id", "roles")}


@asynccontextmanager
async def serving(settings: UsersSettings, issuer: Issuer) -> AsyncIterator[Users]:
    """Yield a service between its start and its stop."""
    app = create_app(settings)
    async with running(app) as http:
        yield Users(app, http, issuer)


async def somebody_waits(database: Database) -> bool:
    """Tell whether a transaction waits for a lock; PostgreSQL alone says."""
    async with database.begin() as session:
        return bool(await session.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")))


def assert_problem(response: httpx.Response, status: int, field: str | None = None) -> None:
    """Check that an answer is a problem, and that it names `field`."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == status
    if field is not None:
        assert [error["field"] for error in body["errors"]] == [field]
