"""Creating an account once, however often the request is repeated."""

import asyncio
from datetime import timedelta
from typing import Any

import httpx
from servicekit.database import open_database, utc_now
from sqlalchemy import update
from users_service.access import ADMINISTRATION
from users_service.tables import IdempotencyKey

from tests.unit.users.driver import PASSWORD, Users, assert_problem

ADA = {"username": "ada", "email": "ada@example.com", "roles": ["user", "admin"], "password": PASSWORD}


async def create(users: Users, body: Any, key: str = "key-1", **headers: str) -> httpx.Response:
    headers = {**users.admin, "Idempotency-Key": key, **headers}
    return await users.http.post("/users", json=body, headers=headers)


async def count(users: Users) -> int:
    return len((await users.http.get("/users", headers=users.admin)).json())


async def test_a_repeated_request_is_answered_with_what_the_first_created(users: Users) -> None:
    first = await create(users, ADA)
    for body in (ADA, ADA | {"roles": ["admin", "user"]}):
        again = await create(users, body)
        assert (again.status_code, again.json()) == (201, first.json())
        for header in ("location", "etag"):
            assert again.headers[header] == first.headers[header]
    assert await count(users) == 1


async def test_ten_of_the_same_request_at_once_create_one_account(users: Users) -> None:
    responses = await asyncio.gather(*(create(users, ADA) for _ in range(10)))
    assert {response.status_code for response in responses} == {201}
    assert len({response.json()["id"] for response in responses}) == 1
    assert await count(users) == 1


async def test_a_key_is_not_for_two_accounts(users: Users) -> None:
    await create(users, ADA)
    response = await create(users, {"username": "eve", "email": "eve@example.com"})
    assert_problem(response, 409, "header.Idempotency-Key")
    assert await count(users) == 1


async def test_each_caller_has_keys_of_their_own(users: Users) -> None:
    await create(users, ADA)
    other = users.issuer.bearer(subject="another", scope=" ".join(ADMINISTRATION))
    assert_problem(await create(users, ADA, **other), 409)
    eve = {"username": "eve", "email": "eve@example.com"}
    assert (await create(users, eve, **other)).status_code == 201


async def test_a_refused_request_does_not_use_up_its_key(users: Users) -> None:
    await users.create("ada")
    assert_problem(await create(users, ADA), 409)
    assert (await create(users, ADA | {"username": "lovelace", "email": "l@example.com"})).status_code == 201


async def test_what_was_deleted_is_not_answered_as_created(users: Users) -> None:
    account = (await create(users, ADA | {"roles": ["user"]})).json()
    await users.http.delete(f"/users/{account['id']}", headers=users.admin)
    assert_problem(await create(users, ADA | {"roles": ["user"]}), 409, "header.Idempotency-Key")


async def test_who_signs_up_with_anothers_key_learns_nothing_that_was_not_sent(open_users: Users) -> None:
    body = {"username": "ada", "email": "ada@example.com", "password": PASSWORD}

    async def sign_up() -> httpx.Response:
        return await open_users.http.post("/users", json=body, headers={"Idempotency-Key": "1"})

    await open_users.create("root", roles=["admin"])  # one has to stay
    account = (await sign_up()).json()
    assert (await sign_up()).json() == account
    own, path = open_users.own(account), f"/users/{account['id']}"
    for headers, change, back in (
        (own, {"email": "new@example.com"}, {"email": "ada@example.com"}),
        (own, {"full_name": "Ada"}, {"full_name": None}),
        (open_users.admin, {"roles": ["user", "admin"]}, {"roles": ["user"]}),
        (open_users.admin, {"disabled": True}, {"disabled": False}),
    ):
        assert (await open_users.http.patch(path, json=change, headers=headers)).status_code == 200
        assert_problem(await sign_up(), 409, "header.Idempotency-Key")
        assert (await open_users.http.patch(path, json=back, headers=open_users.admin)).status_code == 200
    assert (await sign_up()).json()["id"] == account["id"]


async def test_a_key_is_free_again_after_a_day(users: Users, database_url: str) -> None:
    await create(users, ADA)
    for age, status in ((timedelta(hours=23, minutes=59), 409), (timedelta(hours=24, seconds=1), 201)):
        async with open_database(database_url) as database, database.begin() as session:
            await session.execute(update(IdempotencyKey).values(created_at=utc_now() - age))
        assert (await create(users, {"username": "eve", "email": "eve@example.com"})).status_code == status


async def test_a_key_that_is_none_is_422_and_named(users: Users) -> None:
    for key in ("", " ", "a b", "k" * 256):
        assert_problem(await create(users, ADA, key), 422, "header.Idempotency-Key")
