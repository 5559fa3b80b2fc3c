"""Keeps the keys of a process those of the database, and rotates them when they are due."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from servicekit.background import running
from servicekit.database import utc_now
from servicekit.health import Readiness
from servicekit.jwks import KEYS_NEED
from servicekit.logs import get_logger

from auth_service.key_rotation import SigningKeys
from auth_service.metrics import AuthMetrics
from auth_service.signing_keys import KeyRing, states

POLL_SECONDS = 1.0

log = get_logger(__name__)


@asynccontextmanager
async def follow_keys(
    keys: SigningKeys, metrics: AuthMetrics, readiness: Readiness, *, rotation_days: float
) -> AsyncIterator[KeyRing]:
    """Yield the key ring of this process, which follows what any process does to the keys.

    Raises:
        SystemExit: the key that signs cannot be opened.
    """
    await keys.ensure()
    ring = KeyRing(await keys.load(), overlap=keys.overlap)
    if not ring.can_sign:
        raise SystemExit("the key that signs now is sealed with none of AUTH_KEY_ENCRYPTION_KEYS")
    metrics.show_signing_key(ring.created_at)
    readiness.is_met(KEYS_NEED)
    async with running(_follow(keys, ring, metrics, readiness, rotation_days), name="signing keys"):
        yield ring


async def _follow(
    keys: SigningKeys, ring: KeyRing, metrics: AuthMetrics, readiness: Readiness, rotation_days: float
) -> None:
    is_following = True
    while True:
        await asyncio.sleep(POLL_SECONDS)
        try:
            if rotation_days > 0:
                await keys.rotate_if_older(timedelta(days=rotation_days))
            loaded = await keys.load()
            ring.replace(loaded, overlap=keys.overlap)
            metrics.show_signing_key(ring.created_at)
            if ring.can_sign:
                readiness.is_met(KEYS_NEED)
            else:
                readiness.is_missing(KEYS_NEED, "the one that signs now cannot be opened here")
            if "over" in states([key.times for key in loaded], utc_now(), overlap=keys.overlap).values():
                await keys.remove_over()
            is_following = True
        except Exception as error:
            # Whatever it is, the next attempt may succeed; until then the keys are as they were.
            if is_following:
                log.warning("signing_keys_lost", error=type(error).__name__)
            is_following = False
