"""Access tokens (RFC 9068): those of callers, and the one that auth itself shows to users."""

import time
from collections.abc import Generator, Iterable
from uuid import UUID

import httpx
from servicekit.database import new_id

from auth_service.signing_keys import KeyRing

SERVICE_NAME = "auth"
SERVICE_SCOPE = "internal:accounts"
SERVICE_TOKEN_SECONDS = 300
RENEW_BEFORE_SECONDS = 60
"""The service token is renewed so long before its end: it has to live until users has read it."""


class AccessTokens:
    """Writes the access tokens of one issuer."""

    def __init__(self, keys: KeyRing, *, issuer: str, audience: str) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience

    def issue(
        self,
        *,
        subject: str,
        client_id: str,
        scopes: Iterable[str],
        lifetime_seconds: int,
        session_id: UUID | None = None,
    ) -> str:
        """Return a signed token."""
        now = int(time.time())
        claims = {
            "iss": self._issuer,
            "sub": subject,
            "aud": self._audience,
            "exp": now + lifetime_seconds,
            "iat": now,
            "jti": new_id().hex,
            "client_id": client_id,
            "scope": " ".join(sorted(scopes)),
        }
        if session_id is not None:
            claims["sid"] = str(session_id)
        return self._keys.current.sign(claims)

    @property
    def key_id(self) -> str:
        """The key that signs now."""
        return self._keys.current.key_id


class ServiceToken(httpx.Auth):
    """Puts a token of auth's own on each request, the same one until its end is near or its key changes."""

    def __init__(self, tokens: AccessTokens, *, lifetime_seconds: int = SERVICE_TOKEN_SECONDS) -> None:
        self._tokens = tokens
        self._lifetime_seconds = lifetime_seconds
        self._token, self._key_id = "", ""
        self._renew_at = float("-inf")

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the header; httpx calls this for each request."""
        if time.time() >= self._renew_at or self._tokens.key_id != self._key_id:
            self._key_id = self._tokens.key_id
            self._token = self._tokens.issue(
                subject=SERVICE_NAME,
                client_id=SERVICE_NAME,
                scopes=[SERVICE_SCOPE],
                lifetime_seconds=self._lifetime_seconds,
            )
            self._renew_at = time.time() + self._lifetime_seconds - RENEW_BEFORE_SECONDS
        request.headers["Authorization"] = f"Bearer {self._token}"
        yield request
