"""The users service, put together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

import httpx
from fastapi import FastAPI
from limits import RateLimitItemPerHour
from prometheus_client import CollectorRegistry
from servicekit.app import Lifespan, build_app
from servicekit.auth import Verifications
from servicekit.connections import PoolMetrics
from servicekit.database import SCHEMA_NEED, open_database
from servicekit.health import Readiness
from servicekit.jwks import KEYS_NEED, open_jwks
from servicekit.metrics import new_registry
from servicekit.rate_limits import open_rate_limit
from servicekit.revocations import REVOCATIONS_NEED, open_revocations
from servicekit.starting import settings_at_start
from servicekit.telemetry import Telemetry
from servicekit.tokens import TokenVerifier

from users_service.administrators import create_first_administrator
from users_service.attempts import Guard
from users_service.cursors import Cursors
from users_service.dependencies import State
from users_service.passwords import open_passwords
from users_service.routers import accounts, events, internal, lists, passwords, profile
from users_service.settings import UsersSettings
from users_service.shared_keys import open_key

DESCRIPTION = """Accounts, their roles and their passwords.

A caller with the scope `profile` reads, changes and deletes their own account; `users:read` and
`users:write` reach every account. Somebody else's account answers 404, as one that does not exist.
"""


def create_app(settings: UsersSettings | None = None) -> FastAPI:
    """Return the application; without `settings` they are read from the environment."""
    if settings is None:
        settings = settings_at_start(UsersSettings)
    readiness = Readiness(KEYS_NEED, REVOCATIONS_NEED, SCHEMA_NEED)
    registry = new_registry()
    telemetry = Telemetry(settings, version=version("pinhole-users"), registry=registry)
    return build_app(
        settings,
        title="Pinhole users",
        description=DESCRIPTION,
        version=version("pinhole-users"),
        lifespan=_lifespan(settings, readiness, registry, telemetry),
        # `/users/me` before `/users/{user_id}`, which would take it for an id.
        routers=[profile.router, passwords.router, accounts.router, lists.router, events.router, internal.router],
        readiness=readiness,
        registry=registry,
        telemetry=telemetry,
    )


def _lifespan(
    settings: UsersSettings, readiness: Readiness, registry: CollectorRegistry, telemetry: Telemetry
) -> Lifespan:
    jwks_url = f"{settings.auth_url}/.well-known/jwks.json"

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[State]:
        async with (
            open_database(settings.database_url, settings.connection_limits, PoolMetrics(registry)) as database,
            telemetry.watched(httpx.AsyncClient(trust_env=False)) as http,
            open_jwks(
                jwks_url, http, readiness, refresh_seconds=settings.jwks_refresh_seconds, registry=registry
            ) as keys,
            open_revocations(settings.auth_url, http, readiness, keys=keys, registry=registry) as revocations,
            open_rate_limit(
                settings, RateLimitItemPerHour, settings.sign_ups_per_hour, telemetry=telemetry
            ) as sign_up_limit,
        ):
            telemetry.watch_database(database.engine)
            with open_passwords(
                workers=settings.hash_workers,
                queue_size=settings.hash_queue_size,
                min_score=settings.password_min_score,
                registry=registry,
            ) as hashes:
                await database.prepare_schema("users_service", migrate=settings.migrate_at_start)
                readiness.is_met(SCHEMA_NEED)
                await create_first_administrator(database, hashes, settings)
                verifier = TokenVerifier(
                    keys, issuer=settings.issuer, audience=settings.audience, revocations=revocations
                )
                guard = Guard(
                    database,
                    registry,
                    key=await open_key(database, "attempts"),
                    per_pair=settings.attempts_per_name_and_address,
                    per_address=settings.attempts_per_address,
                    per_name=settings.attempts_per_name,
                )
                yield State(
                    settings=settings,
                    database=database,
                    passwords=hashes,
                    guard=guard,
                    sign_up_limit=sign_up_limit,
                    cursors=Cursors(await open_key(database, "cursors")),
                    verifier=verifier,
                    verifications=Verifications(registry),
                )

    return lifespan
