"""Accounts, as the users service knows them: auth asks over HTTP and keeps nothing."""

import asyncio
from typing import Any, TypeVar
from uuid import UUID

import httpx
from pydantic import BaseModel, ValidationError
from servicekit.logs import get_logger

from auth_service.errors import TemporarilyUnavailable, TooManyRequests

MAX_RETRY_AFTER_SECONDS = 60

log = get_logger(__name__)


class Account(BaseModel):
    """Somebody who may sign in."""

    id: UUID
    roles: frozenset[str]
    last_event: int | None = None
    """The number of the last event of users before it verified the credentials."""


class Verification(BaseModel):
    """The answer to credentials: the account that they open, or None."""

    account: Account | None


T = TypeVar("T", bound=BaseModel)


class Accounts:
    """Asks users. Every method raises `TemporarilyUnavailable` where users gives no usable answer."""

    def __init__(self, http: httpx.AsyncClient, *, timeout_seconds: float) -> None:
        """Take a client that knows where users is and authenticates to it."""
        self._http = http
        self._timeout_seconds = timeout_seconds

    async def verify(self, username: str, password: str, *, address: str) -> Account | None:
        """Return the account that these credentials open, or None whatever the reason.

        Raises:
            TooManyRequests: at this name, or from this `address`.
        """
        credentials = {"username": username, "password": password, "address": address}
        response = await self._ask("POST", "/internal/credentials/verify", json=credentials)
        if response.status_code == 422:
            return None  # no account can have such a name or password
        if response.status_code == 429:
            wait_seconds = _retry_after_seconds(response, at_most=3600)
            raise TooManyRequests("too many attempts at passwords", retry_after_seconds=wait_seconds)
        return _read(response, Verification).account

    async def find(self, account_id: str) -> Account | None:
        """Return the account, or None where it is deleted or disabled."""
        response = await self._ask("GET", f"/internal/accounts/{account_id}")
        if response.status_code == 404:
            return None
        return _read(response, Account)

    async def _ask(self, method: str, path: str, **body: Any) -> httpx.Response:
        try:
            # httpx limits each step of the exchange; this limits the sum.
            async with asyncio.timeout(self._timeout_seconds):
                return await self._http.request(method, path, **body)
        except (httpx.HTTPError, TimeoutError) as error:
            log.warning("users_unreachable", error=type(error).__name__)
            raise TemporarilyUnavailable("accounts cannot be reached") from None


def _read(response: httpx.Response, model: type[T]) -> T:
    if response.status_code != 200:
        log.warning("users_refused", status=response.status_code)
        raise TemporarilyUnavailable(
            "accounts cannot be asked for now", retry_after_seconds=_retry_after_seconds(response)
        )
    try:
        return model.model_validate_json(response.content)
    except ValidationError:
        log.error("users_answer_invalid", expected=model.__name__)  # noqa: TRY400 - the error holds the answer
        raise TemporarilyUnavailable("accounts cannot be asked for now") from None


def _retry_after_seconds(response: httpx.Response, at_most: int = MAX_RETRY_AFTER_SECONDS) -> int:
    """Pass on how long users wants to be left alone, within reason."""
    value = response.headers.get("Retry-After", "")
    return min(int(value), at_most) if value.isascii() and value.isdigit() else 2
