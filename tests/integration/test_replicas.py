"""Two replicas of auth and of users on one PostgreSQL: nothing is counted twice, lost or let through between them."""

import asyncio
import base64
import json
import os
import sysconfig
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.eventually import eventually
from tests.integration.doomed_auth import DIE
from tests.integration.identity import ADMIN_PASSWORD, ATTEMPTS, Identity, serve_identity
from tests.postgres import Postgres

Clients = list[httpx.AsyncClient]


@pytest.fixture(scope="module")
def identity(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Identity]:
    names = {name: asyncio.run(postgres.create()) for name in ("auth", "users")}
    with serve_identity(postgres, names, tmp_path_factory.mktemp("identity")) as running:
        yield running


async def clients_of(urls: list[str], stack: AsyncExitStack) -> Clients:
    limits = httpx.Limits(max_connections=None)
    return [await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=90, limits=limits)) for url in urls]


@pytest.fixture
async def auths(identity: Identity) -> AsyncIterator[Clients]:
    async with AsyncExitStack() as stack:
        yield await clients_of([process.url for process in identity.auths], stack)


@pytest.fixture
async def users(identity: Identity) -> AsyncIterator[Clients]:
    async with AsyncExitStack() as stack:
        yield await clients_of([process.url for process in identity.users], stack)


async def sign_up(users: Clients) -> tuple[str, str, str]:
    """Return the name, the password and the id of somebody new."""
    name, password = f"u{uuid4().hex[:20]}", f"correct horse {uuid4()}"
    body = {"username": name, "email": f"{name}@example.com", "password": password}
    response = await users[0].post("/users", json=body)
    assert response.status_code == 201, response.text
    return name, password, response.json()["id"]


async def sign_in(auth: httpx.AsyncClient, name: str, password: str, *, address: str = "192.0.2.1") -> httpx.Response:
    """Sign in as the ingress passes it on: the server trusts this machine to name the caller's address."""
    form = {"grant_type": "password", "username": name, "password": password}
    return await auth.post("/token", data=form, headers={"X-Forwarded-For": f"203.0.113.99, {address}"})


async def tokens_of(auth: httpx.AsyncClient, name: str, password: str) -> dict[str, Any]:
    response = await sign_in(auth, name, password)
    assert response.status_code == 200, response.text
    tokens: dict[str, Any] = response.json()
    return tokens


async def refresh(auth: httpx.AsyncClient, token: str, **headers: str) -> httpx.Response:
    return await auth.post("/token", data={"grant_type": "refresh_token", "refresh_token": token}, headers=headers)


def bearer(tokens: Mapping[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {tokens['access_token']}"}


async def admin(auth: httpx.AsyncClient) -> dict[str, str]:
    return bearer(await tokens_of(auth, "admin", ADMIN_PASSWORD))


# Refresh tokens


async def test_fifty_refreshes_of_one_token_get_one_successor(auths: Clients, users: Clients) -> None:
    name, password, _ = await sign_up(users)
    token = (await tokens_of(auths[0], name, password))["refresh_token"]
    responses = await asyncio.gather(*(refresh(auths[number % 2], token) for number in range(50)))
    assert Counter(response.status_code for response in responses) == {200: 50}
    (successor,) = {response.json()["refresh_token"] for response in responses}
    assert (await refresh(auths[1], successor)).status_code == 200


async def test_a_refresh_whose_process_was_killed_before_the_answer_can_be_sent_again(
    identity: Identity, auths: Clients, users: Clients
) -> None:
    name, password, _ = await sign_up(users)
    token = (await tokens_of(auths[0], name, password))["refresh_token"]
    assert identity.doomed is not None
    async with httpx.AsyncClient(base_url=identity.doomed.url, timeout=90) as doomed:
        with pytest.raises(httpx.HTTPError):
            await refresh(doomed, token, **{DIE: "1"})
    assert identity.doomed.process.wait(30) == -9
    first, second = await refresh(auths[0], token), await refresh(auths[1], token)
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.json()["refresh_token"] == second.json()["refresh_token"]
    assert (await refresh(auths[1], first.json()["refresh_token"])).status_code == 200


async def test_reuse_of_a_refresh_token_ends_the_session_at_every_replica_and_is_logged(
    identity: Identity, auths: Clients, users: Clients
) -> None:
    name, password, _ = await sign_up(users)
    first = await tokens_of(auths[0], name, password)
    second = (await refresh(auths[1], first["refresh_token"])).json()
    third = (await refresh(auths[0], second["refresh_token"])).json()
    (session,) = (await auths[0].get("/sessions", headers=bearer(third))).json()["sessions"]
    assert (await refresh(auths[1], first["refresh_token"])).status_code == 400
    for auth in auths:
        assert (await refresh(auth, third["refresh_token"])).status_code == 400
        assert (await auth.get("/sessions", headers=bearer(third))).status_code == 401
    for client in users:
        await eventually(lambda client=client: _is_refused(client, "/users/me", third))  # type: ignore[misc]
    events = [json.loads(line) for line in identity.logged().splitlines() if "refresh_token_reused" in line]
    assert session["id"] in [event["session_id"] for event in events]


async def _is_refused(client: httpx.AsyncClient, path: str, tokens: Mapping[str, Any]) -> bool:
    return (await client.get(path, headers=bearer(tokens))).status_code == 401


# Passwords


async def test_of_two_hundred_guesses_at_once_the_limit_is_looked_at_and_no_more(
    auths: Clients, users: Clients
) -> None:
    for name in ((await sign_up(users))[0], f"nobody-{uuid4().hex}"):
        responses = await asyncio.gather(*(sign_in(auths[number % 2], name, f"{number}") for number in range(200)))
        assert Counter(response.status_code for response in responses) == {400: ATTEMPTS, 429: 200 - ATTEMPTS}
        refused = [response for response in responses if response.status_code == 429]
        assert all(int(response.headers["retry-after"]) > 0 for response in refused)
        assert {response.json()["error"] for response in refused} == {"slow_down"}


async def test_right_passwords_at_once_all_get_in(auths: Clients, users: Clients) -> None:
    name, password, _ = await sign_up(users)
    responses = await asyncio.gather(*(sign_in(auths[number % 2], name, password) for number in range(2 * ATTEMPTS)))
    assert Counter(response.status_code for response in responses) == {200: 2 * ATTEMPTS}


async def test_a_stranger_does_not_lock_out_who_is_known_at_their_address(auths: Clients, users: Clients) -> None:
    name, password, _ = await sign_up(users)
    await tokens_of(auths[0], name, password)
    guesses = [sign_in(auths[0], name, "x", address=f"198.51.100.{number}") for number in range(60)]
    statuses = Counter(response.status_code for response in await asyncio.gather(*guesses))
    assert statuses[429] > 0, "the counter of the name holds up addresses that are new to it"
    assert (await sign_in(auths[1], name, password)).status_code == 200


async def test_whoever_may_not_sign_in_is_told_the_same(auths: Clients, users: Clients) -> None:
    headers = await admin(auths[0])
    wrong, disabled, deleted, no_password = [await sign_up(users) for _ in range(4)]
    await users[0].patch(f"/users/{disabled[2]}", json={"disabled": True}, headers=headers)
    await users[0].delete(f"/users/{deleted[2]}", headers=headers)
    body = {"username": "passwordless", "email": "passwordless@example.com"}
    assert (await users[0].post("/users", json=body, headers=headers)).status_code == 201
    answers = [
        await sign_in(auths[0], name, password)
        for name, password in [
            (wrong[0], "wrong"),
            (disabled[0], disabled[1]),
            (deleted[0], deleted[1]),
            ("passwordless", "None"),
            ("unknown", no_password[1]),
            (f"{wrong[0]}@example.com", "wrong"),
            (wrong[0], ""),
            (disabled[0], ""),
            ("unknown", ""),
        ]
    ]
    assert {(answer.status_code, answer.content) for answer in answers} == {(400, answers[0].content)}
    assert len({tuple(name for name, _ in answer.headers.items()) for answer in answers}) == 1


# Accounts


async def test_writers_who_have_read_the_same_lose_no_update(auths: Clients, users: Clients) -> None:
    name, password, user_id = await sign_up(users)
    headers = bearer(await tokens_of(auths[0], name, password))
    path = f"/users/{user_id}"

    async def add(letter: str, client: httpx.AsyncClient) -> None:
        while True:
            read = await client.get(path, headers=headers)
            body = {"full_name": (read.json()["full_name"] or "") + letter}
            written = await client.patch(path, json=body, headers=headers | {"If-Match": read.headers["etag"]})
            assert written.status_code in {200, 412}
            if written.status_code == 200:
                return

    letters = "abcdefgh"
    await asyncio.gather(*(add(letter, users[number % 2]) for number, letter in enumerate(letters)))
    assert sorted((await users[0].get(path, headers=headers)).json()["full_name"]) == sorted(letters)


async def test_an_account_that_is_disabled_at_one_replica_is_refused_at_all(auths: Clients, users: Clients) -> None:
    name, password, user_id = await sign_up(users)
    tokens = await tokens_of(auths[0], name, password)
    response = await users[1].patch(f"/users/{user_id}", json={"disabled": True}, headers=await admin(auths[1]))
    assert response.status_code == 200
    for client, path in ((auths[0], "/sessions"), (auths[1], "/sessions"), (users[0], "/users/me")):
        await eventually(lambda client=client, path=path: _is_refused(client, path, tokens))  # type: ignore[misc]


async def test_sign_ins_beside_a_change_of_the_password_hold_if_they_know_the_new_one(
    auths: Clients, users: Clients
) -> None:
    """However they fall, a session of the old password is ended, and one of the new password is not."""
    name, old, _ = await sign_up(users)
    new = f"{old} again"
    here = await tokens_of(auths[0], name, old)
    change = users[0].post(
        "/users/me/password", json={"current_password": old, "new_password": new}, headers=bearer(here)
    )
    beside = [sign_in(auths[number % 2], name, password) for number in range(4) for password in (old, new)]
    changed, *answers = await asyncio.gather(change, *beside)
    assert changed.status_code == 204, changed.text
    after = await tokens_of(auths[1], name, new)
    opened = [answer.json() for answer in answers[::2] if answer.status_code == 200]
    for tokens in opened:
        await eventually(lambda tokens=tokens: _is_refused(auths[0], "/sessions", tokens))  # type: ignore[misc]
    kept = [answer.json() for answer in answers[1::2] if answer.status_code == 200]
    for tokens in (here, after, *kept):
        for auth in auths:
            assert (await auth.get("/sessions", headers=bearer(tokens))).status_code == 200


async def test_five_rotations_by_the_command_refuse_no_valid_token(
    identity: Identity, auths: Clients, users: Clients
) -> None:
    name, password, _ = await sign_up(users)
    tokens = [await tokens_of(auths[0], name, password)]
    refused: list[int] = []
    rotated = asyncio.Event()

    async def use(auth: httpx.AsyncClient, user: httpx.AsyncClient) -> None:
        while not rotated.is_set():
            tokens.append(await tokens_of(auth, name, password))
            for used in (tokens[-1], tokens[0]):
                answers = [await replica.get("/sessions", headers=bearer(used)) for replica in auths]
                answers.append(await user.get("/users/me", headers=bearer(used)))
                refused.extend(answer.status_code for answer in answers if answer.status_code != 200)

    async def rotate() -> None:
        for _ in range(5):
            new = await rotate_keys(identity)
            await eventually(partial(signs_with, auths, name, password, new), within_seconds=30)
        rotated.set()

    async with asyncio.TaskGroup() as tasks:
        for auth, user in zip(auths, users, strict=True):
            tasks.create_task(use(auth, user))
        tasks.create_task(rotate())
    assert refused == []
    assert len({key_of(used) for used in tokens}) == 6


async def rotate_keys(identity: Identity) -> str:
    """Publish a key by the command line, and return its id."""
    command = await asyncio.create_subprocess_exec(
        Path(sysconfig.get_path("scripts")) / "pinhole-auth",
        *("rotate-keys", "--now", "--json"),
        env={**os.environ, "AUTH_DATABASE_URL": identity.auth_database_url},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await command.communicate()
    assert command.returncode == 0
    key_id: str = json.loads(output)["kid"]
    return key_id


async def signs_with(auths: Clients, name: str, password: str, key_id: str) -> bool:
    return {key_of(await tokens_of(auth, name, password)) for auth in auths} == {key_id}


def key_of(tokens: Mapping[str, Any]) -> str:
    """Return the `kid` of an access token."""
    header = tokens["access_token"].partition(".")[0]
    key_id: str = json.loads(base64.urlsafe_b64decode(header + "=="))["kid"]
    return key_id
