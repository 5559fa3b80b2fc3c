"""Keys over their lives: made once by many, rotated under load, revoked everywhere."""

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial

import httpx
import pytest
from auth_service.access_tokens import SERVICE_TOKEN_SECONDS
from auth_service.errors import SigningKeyNotFound, SigningKeyReplaced, SigningKeyUnreadable
from auth_service.key_following import follow_keys
from auth_service.key_rotation import SigningKeys, signing_keys_of
from auth_service.key_sealing import KeySealing
from auth_service.main import create_app
from auth_service.metrics import AuthMetrics
from auth_service.sessions import Lifetimes, Sessions
from auth_service.settings import AuthSettings
from auth_service.signing_keys import KeyRing, states
from auth_service.tables import SigningKeyRow
from cryptography.fernet import Fernet
from prometheus_client import CollectorRegistry
from servicekit.database import Database, open_database, utc_now
from servicekit.health import Readiness
from servicekit.jwks import open_jwks
from servicekit.logs import AUDIT, configure_logs
from servicekit.revocations import open_revocations
from servicekit.token_form import Algorithm, InvalidToken
from servicekit.tokens import TokenVerifier
from sqlalchemy import select, update

from tests.asgi import running
from tests.eventually import eventually
from tests.issuer import AUDIENCE, ISSUER
from tests.unit.auth.fake_users import ADA
from tests.unit.auth.requests import assert_oauth_error, bearer, refresh, sign_in

OVERLAP = timedelta(minutes=16)
TOKEN_SECONDS = 900
PUBLISHED_FOR = timedelta(minutes=10)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A database with the tables and nothing in them."""
    async with open_database(database_url) as database:
        await database.migrate("auth_service")
        yield database


def keys_in(database: Database, algorithm: Algorithm = "ES256", *sealing: str) -> SigningKeys:
    return SigningKeys(
        database,
        algorithm=algorithm,
        publish_for=PUBLISHED_FOR,
        token_seconds=TOKEN_SECONDS,
        sealing=KeySealing(sealing),
    )


async def states_in(database: Database) -> dict[str, str]:
    return {**states(await keys_in(database).list_times(), utc_now(), overlap=OVERLAP)}


async def let_pass(database: Database, time: timedelta) -> None:
    """Make it `time` later for the keys."""
    async with database.begin() as transaction:
        for row in await transaction.scalars(select(SigningKeyRow)):
            row.created_at -= time
            row.active_from = row.active_from and row.active_from - time


async def test_replicas_that_start_together_make_one_key(database: Database, database_url: str) -> None:
    async with open_database(database_url) as second:
        await asyncio.gather(*(keys_in(each, "RS256").ensure() for each in [database, second] * 3))
    assert list((await states_in(database)).values()) == ["active"]


async def test_a_change_of_algorithm_is_a_rotation(database: Database) -> None:
    await keys_in(database, "RS256").ensure()
    (old,) = await states_in(database)
    for _ in range(2):
        await keys_in(database, "ES256").ensure()
    after = await states_in(database)
    assert (after.pop(old), list(after.values())) == ("active", ["published"])
    await let_pass(database, PUBLISHED_FOR)
    assert (await states_in(database))[old] == "retiring"


async def test_a_key_of_the_version_before_signs_from_its_making(database: Database) -> None:
    await keys_in(database).ensure()
    async with database.begin() as transaction:
        await transaction.execute(update(SigningKeyRow).values(active_from=None))
    assert list((await states_in(database)).values()) == ["active"]


async def test_a_key_is_published_activated_retired_and_removed(database: Database) -> None:
    keys = keys_in(database)
    await keys.ensure()
    (old,) = await states_in(database)
    new = await keys.publish()
    assert await states_in(database) == {old: "active", new: "published"}
    await keys.activate(new)
    await keys.activate(new)
    assert await states_in(database) == {old: "retiring", new: "active"}
    for passed in (timedelta(0), OVERLAP - timedelta(seconds=30)):
        await let_pass(database, passed)
        await keys.remove_over()
        assert await states_in(database) == {old: "retiring", new: "active"}
    await let_pass(database, timedelta(seconds=30))
    await keys.remove_over()
    assert await states_in(database) == {new: "active"}


async def test_a_key_that_has_signed_before_signs_no_more(database: Database) -> None:
    keys = keys_in(database)
    await keys.ensure()
    (old,) = await states_in(database)
    new = await keys.publish(active_in=timedelta(0))
    for passed in (timedelta(0), OVERLAP):
        await let_pass(database, passed)
        before = await states_in(database)
        with pytest.raises(SigningKeyReplaced):
            await keys.activate(old)
        assert await states_in(database) == before
    assert before == {old: "over", new: "active"}


async def test_keys_outlive_the_tokens_that_auth_shows_to_users_where_others_are_shorter(
    settings: AuthSettings,
) -> None:
    async with open_database(settings.database_url) as database:
        keys = signing_keys_of(database, settings.model_copy(update={"access_token_seconds": 60}))
    assert keys.overlap == timedelta(seconds=SERVICE_TOKEN_SECONDS) + timedelta(minutes=1)


async def test_it_is_known_for_a_month_that_a_key_was_revoked(database: Database) -> None:
    keys = keys_in(database)
    await keys.ensure()
    (revoked,) = await states_in(database)
    await keys.revoke(revoked)
    for age, is_known in ((timedelta(days=29), True), (timedelta(days=31), False)):
        async with database.begin() as transaction:
            await transaction.execute(
                update(SigningKeyRow).where(SigningKeyRow.id == revoked).values(revoked_at=utc_now() - age)
            )
        await keys.remove_over()
        async with database.begin() as transaction:
            assert (await transaction.get(SigningKeyRow, revoked) is not None) == is_known
    assert list((await states_in(database)).values()) == ["active"]


async def test_a_shorter_life_of_tokens_removes_no_key_before_those_that_live_longer(database: Database) -> None:
    keys = keys_in(database)
    await keys.ensure()
    (old,) = await states_in(database)
    longer = Lifetimes(timedelta(hours=1), idle=timedelta(days=1), absolute=timedelta(days=1), grace=timedelta(0))
    sessions = Sessions(database, longer, AuthMetrics(None))
    await sessions.start(subject=ADA, client_id="one", scopes=frozenset({"profile"}))
    new = await keys.publish(active_in=timedelta(0))
    await let_pass(database, timedelta(minutes=59))
    await keys.remove_over()
    assert {*KeyRing(await keys.load(), overlap=keys.overlap).key_ids} == {old, new}
    await let_pass(database, timedelta(minutes=2))
    await keys.remove_over()
    assert await states_in(database) == {new: "active"}


async def test_the_schedule_makes_one_key_however_many_replicas_follow_it(database: Database) -> None:
    keys, period = [keys_in(database) for _ in range(4)], timedelta(days=30)
    await keys[0].ensure()
    await asyncio.gather(*(each.rotate_if_older(period) for each in keys))
    assert len(await states_in(database)) == 1
    await let_pass(database, period)
    for _ in range(2):
        await asyncio.gather(*(each.rotate_if_older(period) for each in keys))
    assert sorted((await states_in(database)).values()) == ["active", "published"]


async def test_a_revoked_key_is_replaced_by_the_published_one_or_a_new_one(database: Database) -> None:
    keys = keys_in(database)
    await keys.ensure()
    (first,) = await states_in(database)
    second = await keys.publish()
    await keys.revoke(first)
    assert await states_in(database) == {second: "active"}
    await keys.revoke(second)
    (third,) = await states_in(database)
    assert await states_in(database) == {third: "active"}
    with pytest.raises(SigningKeyNotFound):
        await keys.revoke(second)
    with pytest.raises(SigningKeyNotFound):
        await keys.activate(second)
    async with database.begin() as transaction:
        assert (await transaction.get_one(SigningKeyRow, second)).private_pem == ""


async def test_a_key_that_does_not_sign_is_revoked_without_a_change_of_the_one_that_does(database: Database) -> None:
    keys = keys_in(database)
    await keys.ensure()
    (first,) = await states_in(database)
    await keys.revoke(await keys.publish())
    assert await states_in(database) == {first: "active"}


async def test_of_two_published_keys_the_one_that_is_due_first_replaces_a_revoked_one(database: Database) -> None:
    keys = keys_in(database)
    await keys.ensure()
    (first,) = await states_in(database)
    late, soon = await keys.publish(active_in=timedelta(hours=2)), await keys.publish(active_in=timedelta(hours=1))
    await keys.revoke(first)
    assert await states_in(database) == {soon: "active", late: "published"}


async def test_where_no_key_is_due_yet_one_that_is_revoked_is_replaced_all_the_same(database: Database) -> None:
    keys = keys_in(database)
    await keys.revoke(await keys.publish())  # made by hand, before the first start
    (new,) = await states_in(database)
    assert await states_in(database) == {new: "active"}
    ring = KeyRing(await keys.load(), overlap=keys.overlap)
    assert ring.current.key_id == new


async def test_private_keys_are_sealed_where_there_is_a_key_for_that(database: Database) -> None:
    old, new = (Fernet.generate_key().decode() for _ in range(2))
    await keys_in(database).ensure()  # stored before there was one
    await keys_in(database, "ES256", old).publish()
    await keys_in(database, "ES256", new, old).publish()
    async with database.begin() as transaction:
        query = select(SigningKeyRow.private_pem).order_by(SigningKeyRow.created_at)
        stored = (await transaction.scalars(query)).all()
    assert ["PRIVATE KEY" in pem for pem in stored] == [True, False, False]
    opened = await keys_in(database, "ES256", new, old).load()
    assert [key.signing_key is not None for key in opened] == [True, True, True]


async def test_a_key_that_cannot_be_opened_verifies_and_never_signs(
    database: Database, restored_logging: None, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = (Fernet.generate_key().decode() for _ in range(2))
    replica, other = keys_in(database, "ES256", old), keys_in(database, "ES256", new, old)
    await replica.ensure()
    (first,) = await states_in(database)
    second = await other.publish()
    configure_logs("auth", level="INFO", format="json")
    ring = KeyRing(await replica.load(), overlap=replica.overlap)
    assert ring.current.key_id == first
    assert [document["kid"] for document in ring.public_documents] == ring.key_ids == [first, second]
    assert await ring.get(second) is not None
    for _ in range(2):
        await let_pass(database, PUBLISHED_FOR)
        ring.replace(await replica.load(), overlap=replica.overlap)
        with pytest.raises(SigningKeyUnreadable):
            ring.current
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "signing_key_unreadable" in line]
    assert second in line
    assert KeyRing(await other.load(), overlap=other.overlap).current.key_id == second


async def test_a_key_of_the_version_before_is_published_once_somebody_has_opened_it(database: Database) -> None:
    sealing = Fernet.generate_key().decode()
    await keys_in(database, "ES256", sealing).ensure()
    async with database.begin() as transaction:
        await transaction.execute(update(SigningKeyRow).values(public_jwk=None))
    stranger = keys_in(database)
    assert KeyRing(await stranger.load(), overlap=OVERLAP).public_documents == []
    (opened,) = await keys_in(database, "ES256", sealing).load()
    assert KeyRing(await stranger.load(), overlap=OVERLAP).public_documents == [opened.public_document]


async def test_who_follows_the_keys_shows_which_one_signs_removes_those_that_are_over_and_makes_none(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger=AUDIT)
    keys, registry = keys_in(database), CollectorRegistry()
    await keys.ensure()
    await let_pass(database, timedelta(days=1000))
    shown = partial(registry.get_sample_value, "auth_signing_key_created_timestamp_seconds")
    async with follow_keys(keys, AuthMetrics(registry), Readiness(), rotation_days=0) as ring:
        old, first = ring.current.key_id, shown()
        assert first == ring.created_at.timestamp()
        new = await keys.publish(active_in=timedelta(0))
        await let_pass(database, OVERLAP)

        async def is_removed() -> bool:
            return old not in await states_in(database)

        await eventually(is_removed)
        assert await states_in(database) == {new: "active"}
        assert ring.current.key_id == new
        assert shown() == ring.created_at.timestamp() != first
    (removed,) = [line for line in caplog.messages if line.startswith("event='signing_key_removed' audit=True")]
    assert old in removed


async def test_a_service_that_cannot_sign_does_not_start_and_says_which_setting_is_wrong(database: Database) -> None:
    sealing = Fernet.generate_key().decode()
    async with follow_keys(keys_in(database, "ES256", sealing), AuthMetrics(None), Readiness(), rotation_days=0):
        pass
    with pytest.raises(SystemExit, match="AUTH_KEY_ENCRYPTION_KEYS"):
        async with follow_keys(keys_in(database), AuthMetrics(None), Readiness(), rotation_days=0):
            pass


async def test_a_replica_is_not_ready_while_it_cannot_open_the_key_that_signs(settings: AuthSettings) -> None:
    async with running(create_app(settings)) as auth, open_database(settings.database_url) as database:
        tokens = (await sign_in(auth)).json()
        sealed = await keys_in(database, "ES256", Fernet.generate_key().decode()).publish(active_in=timedelta(0))
        await eventually(partial(is_not_ready, auth))
        assert sealed in await published(auth)
        refused = await refresh(auth, tokens["refresh_token"])
        assert_oauth_error(refused, 503, "temporarily_unavailable")
        assert (await auth.get("/sessions", headers=bearer(tokens))).status_code == 200
        await keys_in(database).revoke(sealed)
        await eventually(partial(is_gone, auth, sealed))
        assert (await auth.get("/readyz")).status_code == 200
        assert (await refresh(auth, tokens["refresh_token"])).status_code == 200


# Two replicas of auth, and a service that verifies


@asynccontextmanager
async def verifying(auth: httpx.AsyncClient) -> AsyncIterator[TokenVerifier]:
    """Yield what a service verifies tokens with: keys and revocations from `auth`, asked for each second."""
    readiness = Readiness()
    async with (
        open_jwks("/.well-known/jwks.json", auth, readiness, refresh_seconds=60) as keys,
        open_revocations("", auth, readiness, keys=keys) as revocations,
    ):
        yield TokenVerifier(keys, issuer=ISSUER, audience=AUDIENCE, revocations=revocations)


@pytest.fixture
async def replicas(settings: AuthSettings) -> AsyncIterator[list[httpx.AsyncClient]]:
    # A test under load asks more than is allowed to one address.
    unlimited = settings.model_copy(update={"token_requests_per_minute": 0})
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(running(create_app(unlimited))) for _ in range(2)]


async def published(auth: httpx.AsyncClient) -> list[str]:
    return [key["kid"] for key in (await auth.get("/.well-known/jwks.json")).json()["keys"]]


async def is_active(database: Database, key_id: str) -> bool:
    return (await states_in(database))[key_id] == "active"


async def is_not_ready(auth: httpx.AsyncClient) -> bool:
    return (await auth.get("/readyz")).status_code == 503


async def is_gone(auth: httpx.AsyncClient, key_id: str) -> bool:
    return key_id not in await published(auth)


async def is_refused(verifier: TokenVerifier, token: str) -> bool:
    try:
        await verifier.verify(token)
    except InvalidToken:
        return True
    return False


async def test_five_rotations_under_load_refuse_no_valid_token(
    settings: AuthSettings, replicas: list[httpx.AsyncClient]
) -> None:
    tokens: list[str] = []
    done = asyncio.Event()

    async def use(auth: httpx.AsyncClient, verifier: TokenVerifier) -> None:
        while not done.is_set():
            response = await sign_in(auth)
            assert response.status_code == 200, response.text
            tokens.append(response.json()["access_token"])
            for token in (tokens[-1], tokens[0], tokens[len(tokens) // 2]):
                await verifier.verify(token)

    async def rotate() -> None:
        async with open_database(settings.database_url) as database:
            keys = keys_in(database)
            for _ in range(5):
                new = await keys.publish(active_in=timedelta(seconds=3))
                await eventually(partial(is_active, database, new))
        done.set()

    async with asyncio.timeout(90), verifying(replicas[0]) as one, verifying(replicas[1]) as other:
        # The tokens of each replica are verified with what the other one has told.
        async with asyncio.TaskGroup() as tasks:
            for auth, verifier in ((replicas[0], other), (replicas[1], one)):
                tasks.create_task(use(auth, verifier))
            tasks.create_task(rotate())
        for token, verifier in itertools.product(tokens, (one, other)):
            await verifier.verify(token)
    assert len(await published(replicas[0])) == 6
    assert len({token.partition(".")[0] for token in tokens}) == 6


async def test_a_revoked_key_is_dead_everywhere_within_seconds(
    settings: AuthSettings, replicas: list[httpx.AsyncClient]
) -> None:
    async with verifying(replicas[0]) as one, verifying(replicas[1]) as other:
        tokens = (await sign_in(replicas[0])).json()
        for verifier in (one, other):
            await verifier.verify(tokens["access_token"])
        (compromised,) = await published(replicas[0])
        async with open_database(settings.database_url) as database:
            await keys_in(database).revoke(compromised)
        async with asyncio.timeout(30):
            for verifier in (one, other):
                await eventually(partial(is_refused, verifier, tokens["access_token"]))
            for auth in replicas:
                await eventually(partial(is_gone, auth, compromised))
                headers = {"Authorization": f"Bearer {tokens['access_token']}"}
                assert (await auth.get("/sessions", headers=headers)).status_code == 401
        fresh = (await sign_in(replicas[0])).json()["access_token"]
        await one.verify(fresh)
