"""A user's own account at `/users/me`."""

import asyncio
from functools import partial

import pytest
from servicekit.database import open_database
from users_service import accounts

from tests.eventually import eventually
from tests.unit.users.driver import Users, assert_problem, somebody_waits


async def test_a_user_reads_and_changes_their_own_account(users: Users) -> None:
    account = await users.create("ada")
    headers = users.own(account)
    body = {"username": "lovelace", "email": "lovelace@example.com", "full_name": "Ada Lovelace"}
    changed = await users.http.patch("/users/me", json=body, headers=headers)
    assert changed.status_code == 200
    assert changed.json() == account | body | {"updated_at": changed.json()["updated_at"]}
    for path in ("/users/me", "/users/me/", f"/users/{account['id']}"):
        assert (await users.http.get(path, headers=headers)).json() == changed.json()


@pytest.mark.parametrize("server", ["postgresql"], indirect=True)
async def test_who_is_deleted_while_they_change_their_account_has_none(users: Users, database_url: str) -> None:
    """SQLite lets one writer in at a time."""
    ada = await users.create("ada")
    async with open_database(database_url) as database, open_database(database_url) as other:
        async with database.begin() as session:
            await session.delete(await accounts.find(session, ada["id"]))
            await session.flush()
            changing = asyncio.create_task(
                users.http.patch("/users/me", json={"full_name": "Ada"}, headers=users.own(ada))
            )
            await eventually(partial(somebody_waits, other))
        assert_problem(await changing, 401)


async def test_a_user_deletes_their_own_account_by_its_id(users: Users) -> None:
    account = await users.create("ada")
    response = await users.http.delete(f"/users/{account['id']}", headers=users.own(account))
    assert (response.status_code, response.json()) == (200, account)


async def test_me_is_not_taken_for_an_id(users: Users) -> None:
    for method in ("PUT", "DELETE", "POST"):
        response = await users.http.request(method, "/users/me", headers=users.admin)
        assert_problem(response, 405)
        assert response.headers["allow"] == "GET, HEAD, PATCH"
