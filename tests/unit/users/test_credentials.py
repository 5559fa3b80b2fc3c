"""Signing in, and changing passwords."""

import asyncio
from collections.abc import Iterable
from functools import partial
from typing import Any

import bcrypt
import pytest
from servicekit.database import open_database
from sqlalchemy import select, update
from users_service import accounts
from users_service.dependencies import get_passwords
from users_service.errors import Overloaded
from users_service.passwords import Passwords, Verdict
from users_service.tables import Account

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

NEW_PASSWORD = "another good password"


class CountingPasswords(Passwords):
    """A pool that notes what it was asked for, and computes nothing."""

    def __init__(self) -> None:
        self.verified: list[bool] = []

    async def hash(self, password: str, *, field: str, about: Iterable[str | None] = ()) -> str:
        return f"hash of {password}"

    async def verify(self, password: str, stored: str | None) -> Verdict:
        self.verified.append(stored is not None)
        return Verdict(stored == f"hash of {password}")


class HeldPasswords(CountingPasswords):
    """A pool that is busy until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = asyncio.Event()
        self.released = asyncio.Event()

    async def hash(self, password: str, *, field: str, about: Iterable[str | None] = ()) -> str:
        self.entered.set()
        await self.released.wait()
        return await super().hash(password, field=field, about=about)

    async def verify(self, password: str, stored: str | None) -> Verdict:
        self.entered.set()
        await self.released.wait()
        return await super().verify(password, stored)


class FullPasswords(CountingPasswords):
    """A pool that has no place left."""

    async def hash(self, password: str, *, field: str, about: Iterable[str | None] = ()) -> str:
        raise Overloaded

    async def verify(self, password: str, stored: str | None) -> Verdict:
        raise Overloaded


def replace_passwords(users: Users, passwords: Passwords) -> None:
    users.app.dependency_overrides[get_passwords] = lambda: passwords


async def set_hash(database_url: str, username: str, password_hash: str) -> None:
    async with (
        open_database(database_url) as database,
        database.sessions.begin() as session,
    ):
        await session.execute(update(Account).where(Account.username == username).values(password_hash=password_hash))


async def read_hash(database_url: str, username: str) -> str | None:
    async with (
        open_database(database_url) as database,
        database.sessions.begin() as session,
    ):
        return (await session.scalars(select(Account.password_hash).where(Account.username == username))).one()


async def test_a_user_signs_in_by_any_spelling_of_name_or_address(users: Users) -> None:
    account = await users.create("ada", password=PASSWORD, roles=["user", "admin"])
    for login in ("ada", "ADA", "ada@example.com", "Ada@EXAMPLE.com", "\uff41da"):
        assert await users.sign_in(login) == {"id": account["id"], "roles": ["user", "admin"]}


async def test_a_login_that_is_nobodys_is_answered_as_a_wrong_password(users: Users) -> None:
    await users.create("ada", password=PASSWORD)
    for login in ("", "eve", "eve@example.com", "a\0b", "@", "a@b@c", "x" * 1000, "ada ", "%"):
        assert await users.sign_in(login) is None
    assert await users.sign_in("ada", "wrong") is None


async def test_every_failure_is_answered_alike_and_costs_one_hash(users: Users) -> None:
    passwords = CountingPasswords()
    replace_passwords(users, passwords)
    await users.create("ada", password=PASSWORD)
    await users.create("disabled", password=PASSWORD, disabled=True)
    await users.create("passwordless")
    deleted = await users.create("deleted", password=PASSWORD)
    await users.http.delete(f"/users/{deleted['id']}", headers=users.admin)
    answers = {
        (
            await users.http.post(
                "/internal/credentials/verify", json={"username": name, "password": password}, headers=users.auth
            )
        ).content
        for name, password in [
            ("ada", "wrong"),
            ("ada", ""),
            ("disabled", PASSWORD),
            ("passwordless", PASSWORD),
            ("deleted", PASSWORD),
            ("unknown", PASSWORD),
            ("not@an@address", PASSWORD),
        ]
    }
    assert answers == {b'{"account":null}'}
    assert passwords.verified == [True, True, False, False, False, False, False]


async def test_a_bcrypt_hash_lets_in_once_and_is_then_argon2id(database_url: str, issuer: Issuer) -> None:
    async with serving(users_settings(database_url, issuer), issuer) as users:
        account = await users.create("ada")
        await set_hash(database_url, "ada", bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode())
        assert await users.sign_in("ada", "wrong") is None
        assert (await users.sign_in("ada"))["id"] == account["id"]
        upgraded = await read_hash(database_url, "ada")
        assert upgraded is not None
        assert upgraded.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
        assert (await users.sign_in("ada"))["id"] == account["id"]
        assert await read_hash(database_url, "ada") == upgraded


async def test_a_sign_in_that_replaces_an_imported_hash_leaves_the_account_as_it_was_read(
    database_url: str, issuer: Issuer
) -> None:
    async with serving(users_settings(database_url, issuer), issuer) as users:
        path = f"/users/{(await users.create('ada'))['id']}"
        imported = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
        await set_hash(database_url, "ada", imported)
        tag = (await users.http.get(path, headers=users.admin)).headers["etag"]
        assert await users.sign_in("ada") is not None
        assert await read_hash(database_url, "ada") != imported
        assert (await users.http.get(path, headers={**users.admin, "If-None-Match": tag})).status_code == 304


async def test_the_internal_routes_refuse_what_is_no_request(users: Users) -> None:
    for body in ({}, {"username": "ada"}, {"username": 1, "password": "x"}, {"username": "x" * 1025, "password": "x"}):
        response = await users.http.post("/internal/credentials/verify", json=body, headers=users.auth)
        assert_problem(response, 422)


async def test_auth_reads_the_roles_of_accounts_that_may_still_be_used(users: Users) -> None:
    account = await users.create("ada", roles=["admin"])
    disabled = await users.create("eve", disabled=True)
    response = await users.http.get(f"/internal/accounts/{account['id']}", headers=users.auth)
    assert (response.status_code, response.json()) == (200, {"id": account["id"], "roles": ["admin"]})
    for account_id in (disabled["id"], NOBODY, "1"):
        assert_problem(await users.http.get(f"/internal/accounts/{account_id}", headers=users.auth), 404)


async def test_a_user_changes_their_password_knowing_the_current_one(users: Users) -> None:
    account = await users.create("ada", password=PASSWORD)
    headers = users.own(account)
    body = {"current_password": "wrong", "new_password": NEW_PASSWORD}
    wrong = await users.http.post("/users/me/password", json=body, headers=headers)
    assert_problem(wrong, 403, "body.current_password")
    assert await users.sign_in("ada") is not None
    body["current_password"] = PASSWORD
    assert (await users.http.post("/users/me/password", json=body, headers=headers)).status_code == 204
    assert await users.sign_in("ada") is None
    assert await users.sign_in("ada", NEW_PASSWORD) is not None


async def test_an_account_without_a_password_cannot_be_given_one_by_its_user(users: Users) -> None:
    account = await users.create("ada")
    body = {"current_password": "", "new_password": NEW_PASSWORD}
    response = await users.http.post("/users/me/password", json=body, headers=users.own(account))
    assert_problem(response, 403, "body.current_password")


async def test_two_changes_of_one_password_at_once_do_not_both_succeed(users: Users) -> None:
    account = await users.create("ada", password=PASSWORD)
    responses = await asyncio.gather(
        *(
            users.http.post(
                "/users/me/password",
                json={"current_password": PASSWORD, "new_password": f"{NEW_PASSWORD} {n}"},
                headers=users.own(account),
            )
            for n in range(2)
        )
    )
    assert sorted(response.status_code for response in responses) == [204, 403]


async def test_an_invalid_new_password_is_422_and_named(users: Users) -> None:
    account = await users.create("ada", password=PASSWORD)
    headers = users.own(account, "profile users:write")
    invalid: list[tuple[str, Any]] = [
        ("new_password", "short"),
        ("new_password", "password123"),
        ("new_password", "a" * 257),
        ("new_password", None),
        ("surprise", 1),
    ]
    for name, value in invalid:
        reset = {"new_password": NEW_PASSWORD, name: value}
        response = await users.http.post(f"/users/{account['id']}/password", json=reset, headers=headers)
        assert_problem(response, 422, f"body.{name}")
        change = {"current_password": PASSWORD} | reset
        response = await users.http.post("/users/me/password", json=change, headers=headers)
        assert_problem(response, 422, f"body.{name}")


async def test_nobodys_password_cannot_be_reset(users: Users) -> None:
    for user_id in (NOBODY, "1"):
        path = f"/users/{user_id}/password"
        assert_problem(await users.http.post(path, json={"new_password": PASSWORD}, headers=users.admin), 404)


async def test_who_may_not_decide_over_an_administrator_resets_no_password_of_one(users: Users) -> None:
    account, passwords = await users.create("ada", password=PASSWORD), HeldPasswords()
    path, writer = f"/users/{account['id']}", users.issuer.bearer(scope="users:write")
    replace_passwords(users, passwords)
    waiting = asyncio.create_task(
        users.http.post(f"{path}/password", json={"new_password": NEW_PASSWORD}, headers=writer)
    )
    async with asyncio.timeout(30):
        await passwords.entered.wait()
        promotion = {"roles": ["user", "admin"]}
        assert (await users.http.patch(path, json=promotion, headers=users.admin)).is_success
        passwords.released.set()
        assert_problem(await waiting, 403)
    replace_passwords(users, FullPasswords())  # no hash is computed for who is refused
    assert_problem(await users.http.post(f"{path}/password", json={"new_password": PASSWORD}, headers=writer), 403)
    events = (await users.http.get("/events", headers=users.admin)).json()
    assert [event["type"] for event in events] == ["account.created", "account.changed"]


@pytest.mark.parametrize("server", ["postgresql"], indirect=True)
async def test_a_password_is_not_reset_of_who_is_deleted_meanwhile(users: Users, database_url: str) -> None:
    """SQLite lets one writer in at a time."""
    ada = await users.create("ada", password=PASSWORD)
    async with open_database(database_url) as database, open_database(database_url) as other:
        async with database.begin() as session:
            await session.delete(await accounts.find(session, ada["id"]))
            await session.flush()
            body = {"new_password": NEW_PASSWORD}
            resetting = asyncio.create_task(
                users.http.post(f"/users/{ada['id']}/password", json=body, headers=users.admin)
            )
            await eventually(partial(somebody_waits, other))
        assert_problem(await resetting, 404)


async def test_a_full_hash_pool_is_503_with_a_time_to_retry(users: Users) -> None:
    account = await users.create("ada", password=PASSWORD)
    replace_passwords(users, FullPasswords())
    new = {"username": "eve", "email": "eve@example.com", "password": PASSWORD}
    change = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    login = {"username": "ada", "password": PASSWORD}
    for path, body, headers in (
        ("/users", new, users.admin),
        ("/users/me/password", change, users.own(account)),
        (f"/users/{account['id']}/password", {"new_password": PASSWORD}, users.admin),
        ("/internal/credentials/verify", login, users.auth),
    ):
        response = await users.http.post(path, json=body, headers=headers)
        assert_problem(response, 503)
        assert response.headers["retry-after"] == "1"
    assert len((await users.http.get("/users", headers=users.admin)).json()) == 1


@pytest.mark.parametrize("route", ["create", "change", "reset", "verify"])
async def test_others_write_while_a_hash_is_computed(users: Users, route: str) -> None:
    account = await users.create("ada", password=PASSWORD)
    passwords = HeldPasswords()
    replace_passwords(users, passwords)
    path, body, headers = {
        "create": ("/users", {"username": "eve", "email": "eve@example.com", "password": PASSWORD}, users.admin),
        "change": (
            "/users/me/password",
            {"current_password": PASSWORD, "new_password": NEW_PASSWORD},
            users.own(account),
        ),
        "reset": (f"/users/{account['id']}/password", {"new_password": PASSWORD}, users.admin),
        "verify": ("/internal/credentials/verify", {"username": "ada", "password": PASSWORD}, users.auth),
    }[route]
    waiting = asyncio.create_task(users.http.post(path, json=body, headers=headers))
    async with asyncio.timeout(30):  # a lock that is held is an error after five seconds
        await passwords.entered.wait()
        await users.create("someone-else")
    passwords.released.set()
    # The stored hash is a real one, which this pool finds wrong.
    assert (await waiting).status_code == {"create": 201, "change": 403, "reset": 204, "verify": 200}[route]


async def test_a_burst_beyond_the_pool_is_shed_and_the_service_goes_on(database_url: str, issuer: Issuer) -> None:
    async with serving(users_settings(database_url, issuer, hash_workers=1, hash_queue_size=0), issuer) as users:
        await users.create("ada", password=PASSWORD)
        body = {"username": "ada", "password": PASSWORD}
        responses = await asyncio.gather(
            *(users.http.post("/internal/credentials/verify", json=body, headers=users.auth) for _ in range(20))
        )
        assert {response.status_code for response in responses} == {200, 503}
        assert await users.sign_in("ada") is not None
