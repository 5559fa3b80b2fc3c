"""Ended sessions: asked of auth, kept while it is away, forgotten when they no longer matter."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry
from servicekit import revocations
from servicekit.health import Readiness
from servicekit.jwks import open_jwks
from servicekit.revocations import REVOCATIONS_NEED, EndedSessions, Revocation, RevocationPage, open_revocations
from servicekit.token_form import InvalidToken
from servicekit.tokens import PublicKey, SigningKey, TokenVerifier
from structlog.testing import capture_logs

from tests.issuer import AUDIENCE, ISSUER, Issuer


class Auth:
    """Tells of the sessions in `pages`, the last page again and again; or answers something else."""

    def __init__(self, *pages: list[Revocation]) -> None:
        self.pages = list(pages) or [[]]
        self.answer: Callable[[], Any] | None = None
        self.asked_after: list[str | None] = []

    def __call__(self, request: httpx.Request) -> Any:
        after = request.url.params.get("after")
        self.asked_after.append(after)
        if self.answer is not None:
            return self.answer()
        number = min(int(after or 0), len(self.pages) - 1)
        has_more = number + 1 < len(self.pages)
        page = RevocationPage(revocations=self.pages[number], next=str(number + 1), has_more=has_more)
        return httpx.Response(200, content=page.model_dump_json())


@asynccontextmanager
async def following(
    auth: Auth,
    readiness: Readiness | None = None,
    interval_seconds: float = 60,
    registry: CollectorRegistry | None = None,
) -> AsyncIterator[EndedSessions]:
    async with (
        httpx.AsyncClient(transport=httpx.MockTransport(auth)) as http,
        open_revocations(
            "http://auth",
            http,
            readiness or Readiness(REVOCATIONS_NEED),
            interval_seconds=interval_seconds,
            registry=registry,
        ) as sessions,
    ):
        yield sessions


def ended(*session_ids: str, expires_in_seconds: int = 900) -> list[Revocation]:
    expires_at = int(time.time()) + expires_in_seconds
    return [Revocation(sid=session_id, expires_at=expires_at) for session_id in session_ids]


async def test_what_has_ended_is_known_from_the_start_however_much_it_is() -> None:
    auth, readiness = Auth(ended("a", "b"), ended("c"), ended("d")), Readiness(REVOCATIONS_NEED)
    async with following(auth, readiness) as sessions:
        assert [await sessions.is_revoked(session_id) for session_id in "abcde"] == [True] * 4 + [False]
    assert auth.asked_after == [None, "1", "2"]
    assert readiness.missing == {}


async def test_auth_that_is_away_is_told_once_but_not_at_the_end_of_this_process() -> None:
    auth, readiness = Auth(), Readiness(REVOCATIONS_NEED)
    with capture_logs() as logged:
        async with following(auth, readiness) as sessions:
            auth.answer = lambda: httpx.Response(503)
            await sessions.catch_up()
            await sessions.catch_up()
            assert [line["event"] for line in logged] == ["revocations_lost"]
            auth.answer = None
            await sessions.catch_up()
            readiness.end(within_seconds=10)
            auth.answer = lambda: httpx.Response(503)
            await sessions.catch_up()
    assert [line["event"] for line in logged] == ["revocations_lost", "revocations_regained"]


async def test_what_ends_later_is_learned_at_the_next_turn() -> None:
    auth = Auth()
    async with following(auth, interval_seconds=0.001) as sessions:
        assert not await sessions.is_revoked("a")
        auth.pages[-1] = ended("a")
        async with asyncio.timeout(10):
            while not await sessions.is_revoked("a"):  # noqa: ASYNC110 - the turns have no event to wait for
                await asyncio.sleep(0)


def refuse_connection() -> httpx.Response:
    raise httpx.ConnectError("refused")


BAD_ANSWERS: list[Any] = [
    refuse_connection,
    lambda: httpx.Response(500, json={"revocations": [], "next": "9", "has_more": False}),
    lambda: httpx.Response(302, headers={"Location": "http://elsewhere"}),
    lambda: httpx.Response(200, text="<html>"),
    lambda: httpx.Response(200, json={"revocations": [1], "next": "1", "has_more": False}),
]


@pytest.mark.parametrize("answer", BAD_ANSWERS, ids=["away", "500", "302", "not JSON", "not revocations"])
async def test_a_failure_keeps_what_is_known(answer: Callable[[], httpx.Response]) -> None:
    auth, readiness = Auth(ended("a")), Readiness(REVOCATIONS_NEED)
    async with following(auth, readiness) as sessions:
        auth.answer = answer
        await sessions.catch_up()
        assert await sessions.is_revoked("a")
        auth.answer, auth.pages = None, [[], ended("b")]
        await sessions.catch_up()
        assert auth.asked_after[-1] == "1"
        assert await sessions.is_revoked("b")
    assert readiness.missing == {}


async def test_an_auth_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never() -> httpx.Response:
        await asyncio.sleep(60)
        raise AssertionError("it was waited for")

    auth = Auth(ended("a"))
    async with following(auth) as sessions:
        monkeypatch.setattr(revocations, "REQUEST_SECONDS", 0.01)
        auth.answer = never
        await sessions.catch_up()
        assert await sessions.is_revoked("a")


async def test_a_service_is_not_ready_until_auth_has_answered() -> None:
    auth, readiness = Auth(ended("a")), Readiness(REVOCATIONS_NEED)
    auth.answer = refuse_connection
    async with following(auth, readiness) as sessions:
        assert REVOCATIONS_NEED in readiness.missing
        auth.answer = None
        await sessions.catch_up()
    assert readiness.missing == {}


async def test_readings_are_counted_and_the_last_good_one_has_its_time() -> None:
    auth, registry = Auth([], ended("a")), CollectorRegistry()
    async with following(auth, registry=registry) as sessions:  # two pages are one reading
        auth.answer = refuse_connection
        await sessions.catch_up()
    assert registry.get_sample_value("revocations_reads_total", {"outcome": "ok"}) == 1
    assert registry.get_sample_value("revocations_reads_total", {"outcome": "failed"}) == 1
    read_at = registry.get_sample_value("revocations_read_timestamp_seconds")
    assert read_at is not None
    assert time.time() - 60 < read_at <= time.time()


async def test_a_session_is_forgotten_when_its_tokens_have_expired() -> None:
    auth = Auth(ended("over", expires_in_seconds=-1) + ended("a"))
    async with following(auth) as sessions:
        assert not await sessions.is_revoked("over")
        assert await sessions.is_revoked("a")


async def test_many_that_end_together_are_forgotten_in_a_moment() -> None:
    """As where a client is deleted that many people had signed in with: no request is answered meanwhile."""
    async with following(Auth()) as sessions:
        over = ended(*(str(number) for number in range(200_000)), expires_in_seconds=-1)
        sessions._take(RevocationPage(revocations=over, next="1", has_more=False))
        start = time.process_time()
        await sessions.catch_up()
        assert time.process_time() - start < 2
        assert not await sessions.is_revoked("0")


async def test_memory_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revocations, "MAX_KEPT", 2)
    async with following(Auth(ended("a", "b", "c"))) as sessions:
        assert [await sessions.is_revoked(session_id) for session_id in "abc"] == [False, True, True]


class OneKey:
    def __init__(self, key: SigningKey) -> None:
        self._key = PublicKey(key.public_document)

    async def get(self, key_id: str) -> PublicKey | None:
        return self._key


async def test_a_verifier_refuses_the_tokens_of_an_ended_session_alone() -> None:
    key = SigningKey.generate("ES256")
    issuer = Issuer("", key)
    async with following(Auth(ended("a"))) as sessions:
        verifier = TokenVerifier(OneKey(key), issuer=ISSUER, audience=AUDIENCE, revocations=sessions)
        with pytest.raises(InvalidToken, match="ended"):
            await verifier.verify(issuer.token(sid="a"))
        assert (await verifier.verify(issuer.token(sid="b"))).session_id == "b"
        assert (await verifier.verify(issuer.token())).session_id is None


async def test_the_keys_are_told_which_of_them_are_good() -> None:
    old, new = SigningKey.generate("ES256"), SigningKey.generate("ES256")
    key_ids: list[str] | None = None

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/keys":
            return httpx.Response(200, json={"keys": [old.public_document, new.public_document]})
        page = RevocationPage(revocations=[], next="1", has_more=False, key_ids=key_ids)
        return httpx.Response(200, content=page.model_dump_json())

    readiness = Readiness(REVOCATIONS_NEED)
    async with (
        httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http,
        open_jwks("http://auth/keys", http, readiness, refresh_seconds=60) as keys,
        open_revocations("http://auth", http, readiness, keys=keys, interval_seconds=60) as sessions,
    ):
        assert await keys.get(old.key_id)
        await sessions.catch_up()  # an auth service of the version before says nothing of keys
        assert await keys.get(old.key_id)
        key_ids = [new.key_id]
        await sessions.catch_up()
        assert await keys.get(old.key_id) is None
        assert await keys.get(new.key_id)
