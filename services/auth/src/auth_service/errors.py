"""Errors of the OAuth endpoints: the JSON of RFC 6749 section 5.2, never problem details."""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from servicekit.problem import Conflict, Forbidden, NotFound, Problem, problem_response

from auth_service.schemas import ErrorCode, OAuthErrorResponse

NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
"""On every answer of the token endpoint (RFC 6749 section 5.1)."""


class OAuthError(Exception):
    """An error that an OAuth client is told of.

    The description is for developers. It holds nothing of the request, and only the characters
    that section 5.2 allows: printable ASCII without quotes and backslashes.
    """

    status: ClassVar[int] = 400
    error: ClassVar[ErrorCode]

    def __init__(self, description: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(description)
        self.description = description
        self.headers = {**NO_STORE, **(headers or {})}


class InvalidRequest(OAuthError):
    """A parameter is missing, repeated or malformed, or the body is not a form."""

    error = "invalid_request"


class InvalidGrant(OAuthError):
    """The credentials or the refresh token are not valid; the causes are not told apart."""

    error = "invalid_grant"


class InvalidScope(OAuthError):
    """The scope is malformed, or nothing of it can be granted."""

    error = "invalid_scope"


class UnsupportedGrantType(OAuthError):
    """There is no such grant here."""

    error = "unsupported_grant_type"


class UnauthorizedClient(OAuthError):
    """The client may not use this grant."""

    error = "unauthorized_client"


class InvalidClient(OAuthError):
    """The client is unknown, or it failed to authenticate."""

    status, error = 401, "invalid_client"

    def __init__(self, description: str) -> None:
        super().__init__(description, headers={"WWW-Authenticate": 'Basic realm="pinhole", charset="UTF-8"'})


class InvalidBearer(OAuthError):
    """There is no bearer token, or it is not valid (RFC 6750 section 3.1)."""

    status, error = 401, "invalid_token"

    def __init__(self, description: str, *, is_sent: bool) -> None:
        """Where no token `is_sent`, the challenge names no error."""
        challenge = 'Bearer error="invalid_token"' if is_sent else "Bearer"
        super().__init__(description, headers={"WWW-Authenticate": challenge})


class InsufficientScope(OAuthError):
    """The bearer token lacks a scope (RFC 6750 section 3.1)."""

    status, error = 403, "insufficient_scope"

    def __init__(self, description: str) -> None:
        super().__init__(description, headers={"WWW-Authenticate": 'Bearer error="insufficient_scope"'})


class MethodNotAllowed(OAuthError):
    """OAuth endpoints take POST only."""

    status, error = 405, "invalid_request"

    def __init__(self, description: str) -> None:
        super().__init__(description, headers={"Allow": "POST"})


class FormTooLarge(OAuthError):
    """The body passes the limit; the rest of it is not read and the connection is closed."""

    status, error = 413, "invalid_request"

    def __init__(self, description: str) -> None:
        super().__init__(description, headers={"Connection": "close"})


class FormTooSlow(OAuthError):
    """The body did not come in time; the rest of it is not read and the connection is closed."""

    status, error = 408, "invalid_request"

    def __init__(self, description: str) -> None:
        super().__init__(description, headers={"Connection": "close"})


class TooManyRequests(OAuthError):
    """Too many requests from this address, or attempts at passwords; what was sent was not looked at."""

    status, error = 429, "slow_down"

    def __init__(self, description: str, *, retry_after_seconds: int) -> None:
        super().__init__(description, headers={"Retry-After": str(retry_after_seconds)})


class TemporarilyUnavailable(OAuthError):
    """Accounts cannot be asked for now; the same request may be sent again later."""

    status, error = 503, "temporarily_unavailable"

    def __init__(self, description: str, *, retry_after_seconds: int = 2) -> None:
        super().__init__(description, headers={"Retry-After": str(retry_after_seconds)})


class SigningKeyUnreadable(TemporarilyUnavailable):
    """This replica cannot open the key that signs now; another one may."""

    def __init__(self) -> None:
        super().__init__("tokens cannot be signed here now")


class MalformedBody(Problem):
    """The body could not be read as JSON text."""

    status, title, slug = 400, "Bad Request", "bad-request"


class ClientNotFound(NotFound):
    """No such client."""

    title, slug = "Client not found", "client-not-found"

    def __init__(self) -> None:
        super().__init__("no such client")


class SecretNotFound(NotFound):
    """The client has no such secret."""

    title, slug = "Secret not found", "secret-not-found"

    def __init__(self) -> None:
        super().__init__("the client has no such secret")


class SigningKeyNotFound(NotFound):
    """No such signing key, or it was revoked before."""

    title, slug = "Signing key not found", "signing-key-not-found"

    def __init__(self) -> None:
        super().__init__("no such signing key")


class SigningKeyReplaced(Conflict):
    """The signing key has signed before, and another one does since."""

    title, slug = "Signing key replaced", "signing-key-replaced"

    def __init__(self) -> None:
        super().__init__("the signing key was replaced by another one: publish a new one")


class ClientExists(Conflict):
    """There is a client of this id, or of this ServiceAccount."""

    title, slug = "Client exists", "client-exists"

    def __init__(self) -> None:
        super().__init__("the id or the ServiceAccount is taken")


class ClientConfigured(Conflict):
    """The client comes from the settings, and only they can change it."""

    title, slug = "Client configured", "client-configured"

    def __init__(self) -> None:
        super().__init__("the client is set by AUTH_CLIENTS: change it there")


class TooManySecrets(Conflict):
    """The client has two secrets that work."""

    title, slug = "Too many secrets", "too-many-secrets"

    def __init__(self) -> None:
        super().__init__("two secrets work already: end one of them first")


class NoSecrets(Conflict):
    """The client proves itself in another way than by a secret, or not at all."""

    title, slug = "No secrets", "no-secrets"

    def __init__(self) -> None:
        super().__init__("the client proves itself without a secret")


class ScopeExceeded(Forbidden):
    """The client has a scope that the caller lacks."""

    title, slug = "Scope exceeded", "scope-exceeded"

    def __init__(self, missing: Iterable[str]) -> None:
        super().__init__(f"the client has scopes that you lack: {' '.join(sorted(missing))}")


def oauth_error_responses(*errors: type[OAuthError]) -> dict[int | str, dict[str, Any]]:
    """Describe `errors` for the `responses` of a route: one entry a status, a line a kind."""
    kinds: dict[int, list[type[OAuthError]]] = {}
    for error in errors:
        kinds.setdefault(error.status, []).append(error)
    return {
        status: {
            "model": OAuthErrorResponse,
            "description": "\n\n".join(f"`{kind.error}`: {(kind.__doc__ or '').splitlines()[0]}" for kind in same),
        }
        for status, same in sorted(kinds.items())
    }


def error_response(problem: Problem, request: Request) -> JSONResponse:
    """Render a problem in the words of the path that was asked: clients of OAuth endpoints know no other form."""
    path = request.url.path
    if path.rstrip("/") != "/token" and not path.startswith("/oauth2/"):
        return problem_response(problem, request)
    error: ErrorCode = "invalid_request"
    if problem.status == 503:
        error = TemporarilyUnavailable.error
    elif problem.status >= 500:
        error = "server_error"
    return _oauth_response(error, str(problem), problem.status, {**NO_STORE, **problem.headers})


def install_oauth_error_handler(app: FastAPI) -> None:
    """Make `app` answer every `OAuthError` in OAuth's own form."""

    async def on_oauth_error(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, OAuthError)
        return _oauth_response(error.error, error.description, error.status, error.headers)

    app.add_exception_handler(OAuthError, on_oauth_error)


def _oauth_response(error: ErrorCode, description: str, status: int, headers: Mapping[str, str]) -> JSONResponse:
    body = OAuthErrorResponse(error=error, error_description=description)
    return JSONResponse(body.model_dump(), status_code=status, headers=headers)
