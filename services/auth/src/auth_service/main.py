"""The auth service, put together."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import version

import httpx
from fastapi import FastAPI
from limits import RateLimitItemPerMinute
from prometheus_client import CollectorRegistry
from servicekit.app import build_app
from servicekit.auth import Verifications
from servicekit.connections import PoolMetrics
from servicekit.database import SCHEMA_NEED, Database, open_database
from servicekit.health import Readiness
from servicekit.jwks import KEYS_NEED
from servicekit.metrics import new_registry
from servicekit.rate_limits import open_rate_limit
from servicekit.starting import settings_at_start
from servicekit.telemetry import Telemetry
from servicekit.tokens import TokenVerifier

from auth_service.access_tokens import AccessTokens, ServiceToken
from auth_service.account_events import follow_account_events
from auth_service.accounts import Accounts
from auth_service.client_assertions import ClientAssertions, Cluster
from auth_service.client_authentication import ClientAuthenticator
from auth_service.client_keys import open_remote_keys
from auth_service.client_registry import ClientRegistry
from auth_service.client_sessions import ClientSessions
from auth_service.configured_clients import adopt_configured_clients
from auth_service.dependencies import State
from auth_service.errors import error_response, install_oauth_error_handler
from auth_service.grants import Grants
from auth_service.key_following import follow_keys
from auth_service.key_rotation import signing_keys_of
from auth_service.metrics import AuthMetrics
from auth_service.revocations import Revocations
from auth_service.routers import clients, internal, introspection, revocation, sessions, token, well_known
from auth_service.sessions import Sessions
from auth_service.settings import AuthSettings


def create_app(settings: AuthSettings | None = None) -> FastAPI:
    """Return the application; without `settings` they are read from the environment."""
    if settings is None:
        settings = settings_at_start(AuthSettings)
    readiness = Readiness(SCHEMA_NEED, KEYS_NEED)
    registry = new_registry()
    telemetry = Telemetry(settings, version=version("pinhole-auth"), registry=registry)
    app = build_app(
        settings,
        title="Pinhole auth",
        description="Issues tokens (OAuth 2.0) and publishes the keys that verify them.",
        version=version("pinhole-auth"),
        lifespan=_lifespan(settings, readiness, registry, telemetry),
        routers=[
            token.router,
            revocation.router,
            introspection.router,
            sessions.router,
            clients.router,
            well_known.router,
            internal.router,
        ],
        readiness=readiness,
        registry=registry,
        telemetry=telemetry,
        max_body_bytes=None,  # the routes with a body have their own limit, and their own form of error
        error_response=error_response,
    )
    install_oauth_error_handler(app)
    return app


def _lifespan(
    settings: AuthSettings, readiness: Readiness, registry: CollectorRegistry, telemetry: Telemetry
) -> Callable[[FastAPI], AbstractAsyncContextManager[State]]:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[State]:
        metrics = AuthMetrics(registry)
        async with open_database(settings.database_url, settings.connection_limits, PoolMetrics(registry)) as database:
            telemetry.watch_database(database.engine)
            await database.prepare_schema("auth_service", migrate=settings.migrate_at_start)
            readiness.is_met(SCHEMA_NEED)
            live_sessions, revocations = (
                Sessions(database, settings.lifetimes, metrics),
                Revocations(database, access_token_seconds=settings.access_token_seconds),
            )
            await adopt_configured_clients(database, settings.clients)
            async with (
                follow_keys(
                    signing_keys_of(database, settings), metrics, readiness, rotation_days=settings.key_rotation_days
                ) as keys,
                telemetry.watched(
                    _users_client(
                        settings, tokens := AccessTokens(keys, issuer=settings.issuer, audience=settings.audience)
                    )
                ) as http,
                follow_account_events(http, database, registry, readiness),
                open_rate_limit(
                    settings, RateLimitItemPerMinute, settings.token_requests_per_minute, telemetry=telemetry
                ) as token_limit,
                _open_client_assertions(database, settings) as assertions,
            ):
                authenticator = ClientAuthenticator(database, assertions)
                grants = Grants(
                    accounts=Accounts(http, timeout_seconds=settings.users_timeout_seconds),
                    clients=authenticator,
                    sessions=live_sessions,
                    client_sessions=ClientSessions(database, access_token_seconds=settings.access_token_seconds),
                    tokens=tokens,
                    access_token_seconds=settings.access_token_seconds,
                    metrics=metrics,
                )
                yield State(
                    settings=settings,
                    token_limit=token_limit,
                    keys=keys,
                    verifier=TokenVerifier(
                        keys, issuer=settings.issuer, audience=settings.audience, revocations=revocations
                    ),
                    verifications=Verifications(registry),
                    metrics=metrics,
                    clients=authenticator,
                    client_registry=ClientRegistry(database),
                    grants=grants,
                    sessions=live_sessions,
                    revocations=revocations,
                )

    return lifespan


def _users_client(settings: AuthSettings, tokens: AccessTokens) -> httpx.AsyncClient:
    """Return a client of users. It takes no proxy, whatever the environment says: what it sends holds passwords."""
    return httpx.AsyncClient(
        base_url=settings.users_url,
        auth=ServiceToken(tokens),
        timeout=settings.users_timeout_seconds,
        trust_env=False,
    )


@asynccontextmanager
async def _open_client_assertions(database: Database, settings: AuthSettings) -> AsyncIterator[ClientAssertions]:
    cluster = settings.cluster_issuer and Cluster(settings.cluster_issuer, settings.cluster_jwks_url)
    async with (
        open_remote_keys() as keys,
        open_remote_keys(ca_file=settings.cluster_ca_file, token_file=settings.cluster_token_file) as cluster_keys,
    ):
        yield ClientAssertions(
            database,
            audiences=frozenset({settings.issuer, f"{settings.issuer.rstrip('/')}/token"}),
            keys=keys,
            cluster=cluster or None,
            cluster_keys=cluster_keys,
        )
