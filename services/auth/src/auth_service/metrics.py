"""What the auth service tells Prometheus beside its HTTP requests."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge
from servicekit.problem import ServiceUnavailable

from auth_service.clients import GRANT_TYPES
from auth_service.errors import OAuthError, TemporarilyUnavailable, TooManyRequests

Login = Literal["ok", "refused", "locked", "unavailable", "error"]
"""What comes of a sign-in. Users does not tell why it refuses one, so neither is it told here."""


@dataclass(slots=True)
class CountedRequest:
    """A request for tokens, and what is known of it by now."""

    grant_type: str = "unknown"

    def asks_for(self, grant_type: str | None) -> None:
        """Take what the caller wrote, which may be anything."""
        if grant_type is not None:
            self.grant_type = grant_type if grant_type in GRANT_TYPES else "unsupported"


class AuthMetrics:
    """Requests for tokens, sign-ins and the signing key. To be made in each worker by itself."""

    def __init__(self, registry: CollectorRegistry | None) -> None:
        """Without `registry` nobody sees them."""
        self._token_requests = Counter(
            "auth_token_requests",
            "Requests for tokens, by the error that OAuth has for what came of them.",
            ["grant_type", "outcome"],
            registry=registry,
        )
        logins = Counter(
            "auth_logins",
            "Sign-ins with a password that was to be looked at: ok, refused, locked, unavailable or error.",
            ["outcome"],
            registry=registry,
        )
        self._logins = {outcome: logins.labels(outcome) for outcome in get_args(Login)}
        self._refresh_reuse = Counter(
            "auth_refresh_reuse",
            "Refresh tokens that came a second time, and ended their session.",
            registry=registry,
        )
        self._signing_key_created = Gauge(
            "auth_signing_key_created_timestamp_seconds",
            "When the key that signs now was made, in Unix time.",
            multiprocess_mode="livemin",
            registry=registry,
        )

    @contextmanager
    def token_request(self) -> Iterator[CountedRequest]:
        """Count one request, which the block answers."""
        request = CountedRequest()
        outcome = "error"
        try:
            yield request
            outcome = "ok"
        except OAuthError as error:
            outcome = error.error
            raise
        except ServiceUnavailable:
            outcome = TemporarilyUnavailable.error
            raise
        finally:
            self._token_requests.labels(request.grant_type, outcome).inc()

    @contextmanager
    def login(self) -> Iterator[None]:
        """Count one sign-in, which the block makes."""
        outcome: Login = "error"
        try:
            yield
            outcome = "ok"
        except TooManyRequests:
            outcome = "locked"
            raise
        except (TemporarilyUnavailable, ServiceUnavailable):
            outcome = "unavailable"
            raise
        except OAuthError:
            outcome = "refused"
            raise
        finally:
            self._logins[outcome].inc()

    def refresh_token_was_reused(self) -> None:
        """Count one refresh token that was copied."""
        self._refresh_reuse.inc()

    def show_signing_key(self, created_at: datetime) -> None:
        """Show when the key was made that signs now."""
        self._signing_key_created.set(created_at.timestamp())
