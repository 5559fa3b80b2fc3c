"""Who calls: bearer tokens on requests (RFC 6750), before anything of the body is read."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import structlog
from fastapi import Request, Security
from fastapi.security import OAuth2PasswordBearer, SecurityScopes
from opentelemetry.trace import Tracer
from prometheus_client import CollectorRegistry, Counter

from servicekit.logs import get_audit_log
from servicekit.problem import Forbidden, ServiceUnavailable, Unauthorized
from servicekit.token_form import ExpiredToken, InvalidToken, RevokedToken
from servicekit.tokens import TokenVerifier

SCOPES = {
    "inference:predict": "Classify images and read what models there are.",
    "inference:admin": "Load and unload models.",
    "users:read": "Read every account.",
    "users:write": "Create, change and delete every account.",
    "clients:admin": "Register and change OAuth clients.",
    "profile": "Read and change one's own account.",
}

audit = get_audit_log()

bearer = OAuth2PasswordBearer(tokenUrl="/token", scopes=SCOPES, auto_error=False)
"""The token of a request, or None. Routes that need a caller use `require_scope`."""


Verification = Literal["ok", "expired", "revoked", "invalid", "unavailable", "error"]
"""What is found of a token; unavailable where the keys or the database are away."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls, and what they may do."""

    subject: str
    client_id: str
    scopes: frozenset[str]
    session_id: str | None


class Verifications:
    """Counts the tokens of requests by what is found of them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        counter = Counter(
            "token_verifications",
            "Access tokens of requests: good, expired, of a session that has ended, not ours, or not to be judged now.",
            ["outcome"],
            registry=registry,
        )
        self._outcomes = {outcome: counter.labels(outcome) for outcome in get_args(Verification)}

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count one token, which the block verifies."""
        outcome: Verification = "error"
        try:
            yield
            outcome = "ok"
        except ExpiredToken:
            outcome = "expired"
            raise
        except RevokedToken:
            outcome = "revoked"
            raise
        except InvalidToken:
            outcome = "invalid"
            raise
        except ServiceUnavailable:
            outcome = "unavailable"
            raise
        finally:
            self._outcomes[outcome].inc()


async def authenticate(
    required: SecurityScopes,
    token: str | None,
    verifier: TokenVerifier,
    verifications: Verifications,
    tracer: Tracer,
) -> Principal:
    """Return the caller whose token has every scope in `required`.

    Raises:
        Unauthorized: there is no bearer token, or it is not valid.
        Forbidden: a scope is missing.
    """
    if token is None:
        raise Unauthorized("a bearer token is required")
    with tracer.start_as_current_span("authenticate", record_exception=False, set_status_on_exception=False):
        try:
            with verifications.counted():
                claims = await verifier.verify(token)
        except InvalidToken as error:
            raise Unauthorized(f"the token is not valid: {error}", error="invalid_token") from None
    structlog.contextvars.bind_contextvars(actor=claims.subject)
    if missing := set(required.scopes) - claims.scopes:
        audit.info("access_refused", missing=sorted(missing), client_id=claims.client_id)
        challenge = f'Bearer error="insufficient_scope", scope="{required.scope_str}"'
        raise Forbidden(f"missing scope: {' '.join(sorted(missing))}", headers={"WWW-Authenticate": challenge})
    return Principal(claims.subject, claims.client_id, claims.scopes, claims.session_id)


async def get_principal(required: SecurityScopes, request: Request, token: str | None) -> Principal:
    """Return who calls, by what the lifespan put into the state; raises as `authenticate` does."""
    state = request.state
    return await authenticate(required, token, state.verifier, state.verifications, state.tracer)


class _CallerBearer(OAuth2PasswordBearer):
    """`bearer` and who has the token, in one: each dependency takes its time, at each request."""

    async def __call__(self, request: Request, required: SecurityScopes) -> Principal:  # type: ignore[override]
        return await get_principal(required, request, await super().__call__(request))


_caller = _CallerBearer(tokenUrl="/token", scheme_name=bearer.scheme_name, scopes=SCOPES, auto_error=False)


class CallerWith:
    """Who calls a `DirectRoute`, where they have `scopes`."""

    def __init__(self, *scopes: str) -> None:
        self._required = SecurityScopes(list(scopes))

    @property
    def security(self) -> list[dict[str, list[str]]]:
        """Return the `security` of an operation in OpenAPI."""
        return [{_caller.scheme_name: self._required.scopes}]

    async def __call__(self, request: Request) -> Principal:
        """Return the caller; raises as `authenticate` does."""
        return await _caller(request, self._required)


def require_scope(*scopes: str) -> Any:
    """Mark a parameter as the caller who has `scopes`: `Annotated[Principal, require_scope("profile")]`."""
    return Security(_caller, scopes=list(scopes))
