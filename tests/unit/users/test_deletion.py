"""Deleting, restoring and erasing accounts, and what is left of them."""

import asyncio
from functools import partial

import pytest
from servicekit.database import open_database
from sqlalchemy import Connection, MetaData, select
from users_service import deletion
from users_service.dependencies import get_passwords
from users_service.passwords import Passwords
from users_service.tables import AttemptCounter, IdempotencyKey

from tests.eventually import eventually
from tests.issuer import Issuer
from tests.unit.users.driver import (
    NOBODY,
    PASSWORD,
    Users,
    assert_problem,
    serving,
    somebody_waits,
    users_settings,
)


def dump(connection: Connection) -> str:
    """Return all that a database holds, as text."""
    metadata = MetaData()
    metadata.reflect(connection)
    return "\n".join(str(row) for table in metadata.sorted_tables for row in connection.execute(select(table)))


async def test_a_restored_account_is_as_it_was(users: Users) -> None:
    account = await users.create("ada", password=PASSWORD, full_name="Ada", roles=["user", "admin"])
    await users.create("root", roles=["admin"])
    await users.http.delete(f"/users/{account['id']}", headers=users.admin)
    response = await users.http.post(f"/users/{account['id']}/restore", headers=users.admin)
    assert response.status_code == 200
    assert response.json() == account | {"updated_at": response.json()["updated_at"]}
    assert await users.sign_in("ada") == {"id": account["id"], "roles": ["user", "admin"]}
    assert (await users.http.get(f"/users/{account['id']}", headers=users.admin)).json() == response.json()


@pytest.mark.parametrize("field", ["username", "email"])
async def test_an_account_whose_name_was_taken_since_is_not_restored(users: Users, field: str) -> None:
    account = await users.create("ada")
    await users.http.delete(f"/users/{account['id']}", headers=users.admin)
    await users.create(**({"username": "eve", "email": "eve@example.com"} | {field: account[field].upper()}))
    response = await users.http.post(f"/users/{account['id']}/restore", headers=users.admin)
    assert_problem(response, 409, f"body.{field}")


async def test_what_is_not_deleted_stays_and_what_never_was_is_not_found(users: Users) -> None:
    account = await users.create("ada")
    response = await users.http.post(f"/users/{account['id']}/restore", headers=users.admin)
    assert (response.status_code, response.json()) == (200, account)
    for user_id in (NOBODY, "me", "1"):
        assert_problem(await users.http.post(f"/users/{user_id}/restore", headers=users.admin), 404)


async def test_restoring_several_times_at_once_is_restoring_once(users: Users) -> None:
    account = await users.create("ada")
    await users.http.delete(f"/users/{account['id']}", headers=users.admin)
    responses = await asyncio.gather(
        *(users.http.post(f"/users/{account['id']}/restore", headers=users.admin) for _ in range(4))
    )
    assert {response.status_code for response in responses} == {200}
    events = (await users.http.get("/events", headers=users.admin)).json()
    assert [event["type"] for event in events] == ["account.created", "account.deleted", "account.restored"]


@pytest.mark.parametrize("server", ["postgresql"], indirect=True)
@pytest.mark.parametrize(("way", "status"), [("restore", 200), ("erase", 404)])
async def test_who_comes_while_an_account_is_restored_finds_it_so(
    users: Users, database_url: str, way: str, status: int
) -> None:
    """SQLite lets one writer in at a time."""
    account = await users.create("ada")
    path = f"/users/{account['id']}"
    await users.http.delete(path, headers=users.admin)
    async with open_database(database_url) as database, open_database(database_url) as other:
        async with database.begin() as session:
            await deletion.restore(session, account["id"], actor=None, only_if=lambda _deleted: None)
            method, url = ("POST", f"{path}/restore") if way == "restore" else ("DELETE", f"{path}?erase=true")
            coming = asyncio.create_task(users.http.request(method, url, headers=users.admin))
            await eventually(partial(somebody_waits, other))
        assert (await coming).status_code == status
    assert (await users.http.get(path, headers=users.admin)).json()["username"] == "ada"


@pytest.mark.parametrize("way", ["at once", "by themselves", "after deletion"])
async def test_erasure_leaves_nothing_personal(
    database_url: str, issuer: Issuer, cheap_passwords: Passwords, way: str
) -> None:
    async with serving(users_settings(database_url, issuer, sign_up="open"), issuer) as users:
        users.app.dependency_overrides[get_passwords] = lambda: cheap_passwords
        body = {"username": "Lovelace", "email": "Ada.L@example.net", "full_name": "Augusta", "password": PASSWORD}
        headers = {"Idempotency-Key": "lovelace-1"}
        account = (await users.http.post("/users", json=body, headers=headers)).json()
        change = {"full_name": "Augusta Ada", "email": "Countess@example.net", "username": "byron-king"}
        await users.http.patch("/users/me", json=change, headers=users.own(account))
        path = f"/users/{account['id']}"
        for login in (change["username"], change["email"].upper()):
            for address in ("192.0.2.1", "198.51.100.7"):
                tried = {"username": login, "password": PASSWORD, "address": address}
                assert (
                    await users.http.post("/internal/credentials/verify", json=tried, headers=users.auth)
                ).is_success
        password = {"current_password": "wrong", "new_password": PASSWORD}
        await users.http.post("/users/me/password", json=password, headers=users.own(account))
        if way == "after deletion":
            await users.http.delete(path, headers=users.admin)
        caller = users.own(account) if way == "by themselves" else users.admin
        erased = await users.http.delete(path, params={"erase": "true"}, headers=caller)
        assert (erased.status_code, erased.json()["full_name"]) == (200, "Augusta Ada")
        assert_problem(await users.http.post(f"{path}/restore", headers=users.admin), 404)
        assert_problem(await users.http.delete(path, params={"erase": "true"}, headers=users.admin), 404)
    async with open_database(database_url) as database, database.engine.begin() as connection:
        content = (await connection.run_sync(dump)).lower()
        assert (await connection.execute(select(IdempotencyKey))).all() == []
        # Those of the three addresses, which tell of nobody.
        assert len((await connection.execute(select(AttemptCounter.key))).all()) == 3
    assert "account.erased" in content
    for personal in ("lovelace", "ada.l", "example.net", "augusta", "countess", "byron", "argon2"):
        assert personal not in content


async def test_a_user_cannot_erase_what_they_cannot_reach(users: Users) -> None:
    ada, eve = await users.create("ada"), await users.create("eve")
    await users.http.delete(f"/users/{ada['id']}", headers=users.admin)
    for caller, status in ((ada, 401), (eve, 404)):
        response = await users.http.delete(f"/users/{ada['id']}", params={"erase": "true"}, headers=users.own(caller))
        assert_problem(response, status)
    assert (await users.http.post(f"/users/{ada['id']}/restore", headers=users.admin)).status_code == 200


async def test_the_last_administrator_is_not_erased_either(users: Users) -> None:
    admin = await users.create("root", roles=["admin"])
    assert_problem(await users.http.delete(f"/users/{admin['id']}?erase=true", headers=users.admin), 409)
