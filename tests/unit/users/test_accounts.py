"""Accounts over HTTP: create, read, list, replace, patch, delete."""

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from servicekit.database import open_database
from users_service import accounts

from tests.eventually import eventually
from tests.unit.users.driver import NOBODY, PASSWORD, Users, assert_problem, somebody_waits

SEED_CREATE = {"id": 1, "username": "john_doe", "email": "john.doe@example.com", "full_name": "John Doe"}
SEED_REPLACE = {"username": "johndoe", "email": "johndoe@example.com", "full_name": "John Doe"}

INVALID_FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"username": "ab"}, "body.username"),
    ({"username": "a" * 65}, "body.username"),
    ({"username": "a b"}, "body.username"),
    ({"username": "ada\n"}, "body.username"),
    ({"username": "-ada"}, "body.username"),
    ({"username": "ад\u0430"}, "body.username"),
    ({"username": None}, "body.username"),
    ({"username": 7}, "body.username"),
    ({"email": "ada"}, "body.email"),
    ({"email": "Ada <ada@example.com>"}, "body.email"),
    ({"email": f"{'a' * 64}@{'b' * 63}.{'c' * 63}.{'d' * 63}.com"}, "body.email"),
    ({"full_name": "a\x00b"}, "body.full_name"),
    ({"full_name": "a" * 201}, "body.full_name"),
    ({"disabled": 1}, "body.disabled"),
    ({"roles": ["root"]}, "body.roles.0"),
    ({"roles": "admin"}, "body.roles"),
    ({"roles": ["user"] * 11}, "body.roles"),
    ({"is_admin": True}, "body.is_admin"),
]


async def test_the_whole_life_of_an_account_with_trailing_slashes(users: Users) -> None:
    created = await users.http.post("/users/", json=SEED_CREATE, headers=users.admin)
    assert created.status_code == 201
    account = created.json()
    assert account["id"] != 1
    path = created.headers["location"]
    assert path == f"/users/{account['id']}"

    assert (await users.http.get("/users/", headers=users.admin)).json() == [account]
    assert (await users.http.get(f"{path}/", headers=users.admin)).json() == account

    replaced = await users.http.put(path, json=SEED_REPLACE, headers=users.admin)
    assert replaced.status_code == 200
    assert replaced.json() == account | SEED_REPLACE | {"updated_at": replaced.json()["updated_at"]}

    deleted = await users.http.delete(path, headers=users.admin)
    assert (deleted.status_code, deleted.json()) == (200, replaced.json())
    assert_problem(await users.http.get(path, headers=users.admin), 404)
    assert (await users.http.get("/users", headers=users.admin)).json() == []


async def test_a_new_account_is_an_enabled_user_with_utc_times_and_a_uuid7(users: Users) -> None:
    account = await users.create("ada")
    assert UUID(account["id"]).version == 7
    assert (account["roles"], account["disabled"], account["full_name"]) == (["user"], False, None)
    created_at = datetime.fromisoformat(account["created_at"])
    assert created_at.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - created_at) < timedelta(minutes=1)
    assert not {"password", "password_hash", "username_canonical"} & account.keys()


async def test_names_keep_their_case_and_addresses_their_one_spelling(users: Users) -> None:
    account = await users.create("Ada", email="Ada.L@EXAMPLE.com")
    assert (account["username"], account["email"]) == ("Ada", "Ada.L@example.com")


@pytest.mark.parametrize(
    ("second", "field"),
    [
        ({"username": "ADA", "email": "other@example.com"}, "body.username"),
        ({"username": "other", "email": "ADA@EXAMPLE.COM"}, "body.email"),
    ],
)
async def test_a_name_or_address_that_differs_in_case_alone_is_taken(
    users: Users, second: dict[str, str], field: str
) -> None:
    await users.create("ada", email="ada@example.com")
    other = await users.create("eve")
    for response in (
        await users.http.post("/users", json=second, headers=users.admin),
        await users.http.put(f"/users/{other['id']}", json=second, headers=users.admin),
        await users.http.patch(f"/users/{other['id']}", json=second, headers=users.admin),
        await users.http.patch("/users/me", json=second, headers=users.own(other)),
    ):
        assert_problem(response, 409, field)
    assert (await users.http.get(f"/users/{other['id']}", headers=users.admin)).json() == other


async def test_the_field_that_is_taken_is_named_whatever_its_value_says(users: Users) -> None:
    await users.create("ada", email="username_canonical@example.com")
    taken = {"username": "eve", "email": "username_canonical@example.com"}
    assert_problem(await users.http.post("/users", json=taken, headers=users.admin), 409, "body.email")


async def test_ten_creations_of_one_name_at_once_make_one_account(users: Users) -> None:
    responses = await asyncio.gather(
        *(
            users.http.post("/users", json={"username": "ada", "email": f"a{n}@example.com"}, headers=users.admin)
            for n in range(10)
        )
    )
    assert sorted(response.status_code for response in responses) == [201] + [409] * 9
    assert len((await users.http.get("/users", headers=users.admin)).json()) == 1


async def test_an_invalid_field_is_422_and_named_wherever_it_is_written(users: Users) -> None:
    account = await users.create("eve")
    path = f"/users/{account['id']}"
    for changes, field in INVALID_FIELDS:
        body = {"username": "ada", "email": "ada@example.com"} | changes
        assert_problem(await users.http.post("/users", json=body, headers=users.admin), 422, field)
        assert_problem(await users.http.put(path, json=body, headers=users.admin), 422, field)
        assert_problem(await users.http.patch(path, json=changes, headers=users.admin), 422, field)
        assert_problem(await users.http.patch("/users/me", json=changes, headers=users.own(account)), 422, field)
    assert (await users.http.get(path, headers=users.admin)).json() == account


@pytest.mark.parametrize("password", ["1234567", "a" * 257, "", 12345678])
async def test_a_password_of_another_length_or_type_is_422_and_not_repeated(users: Users, password: Any) -> None:
    body = {"username": "ada", "email": "ada@example.com", "password": password}
    response = await users.http.post("/users", json=body, headers=users.admin)
    assert_problem(response, 422, "body.password")
    assert not password or str(password) not in response.text


@pytest.mark.parametrize("character", ["\x00", "\n", "\r", "\x7f"])
async def test_a_password_that_no_sign_in_takes_is_422(users: Users, character: str) -> None:
    password = f"correct horse{character}battery staple"
    body = {"username": "ada", "email": "ada@example.com", "password": password}
    assert_problem(await users.http.post("/users", json=body, headers=users.admin), 422, "body.password")
    account = await users.create("bob")
    for path, change, headers in (
        (f"/users/{account['id']}/password", {}, users.admin),
        ("/users/me/password", {"current_password": PASSWORD}, users.own(account)),
    ):
        response = await users.http.post(path, json=change | {"new_password": password}, headers=headers)
        assert_problem(response, 422, "body.new_password")


@pytest.mark.parametrize(
    ("content", "status"), [(b"{", 422), (b'{"username": "\xff"}', 400), (b"[" * 60_000, 400), (b" " * 70_000, 413)]
)
async def test_a_body_that_is_no_json_is_refused(users: Users, content: bytes, status: int) -> None:
    headers = {**users.admin, "Content-Type": "application/json"}
    assert_problem(await users.http.post("/users", content=content, headers=headers), status)


@pytest.mark.parametrize("field", ["username", "email", "full_name", "password"])
async def test_half_a_surrogate_is_422_and_named(users: Users, field: str) -> None:
    body = {"username": "ada", "email": "ada@example.com", field: "SURROGATE"}
    content = str(body).replace("'", '"').replace("SURROGATE", r"\ud800" * 9)
    headers = {**users.admin, "Content-Type": "application/json"}
    assert_problem(await users.http.post("/users", content=content, headers=headers), 422, f"body.{field}")


async def test_what_was_read_can_be_sent_back(users: Users) -> None:
    account = await users.create("ada", full_name="Ada")
    response = await users.http.put(f"/users/{account['id']}", json=account | {"id": NOBODY}, headers=users.admin)
    assert response.status_code == 200
    assert response.json() == account | {"updated_at": response.json()["updated_at"]}


async def test_put_removes_a_full_name_and_keeps_roles_and_disabled(users: Users) -> None:
    account = await users.create("ada", full_name="Ada", disabled=True, roles=["admin", "user", "admin"])
    body = {"username": "lovelace", "email": "lovelace@example.com"}
    response = await users.http.put(f"/users/{account['id']}", json=body, headers=users.admin)
    assert response.status_code == 200
    changed = response.json()
    assert changed == account | body | {"full_name": None, "updated_at": changed["updated_at"]}
    assert (changed["disabled"], changed["roles"]) == (True, ["user", "admin"])


async def test_a_merge_patch_changes_what_it_names_and_null_removes(users: Users) -> None:
    account = await users.create("ada", full_name="Ada")
    path = f"/users/{account['id']}"
    headers = {**users.admin, "Content-Type": "application/merge-patch+json"}
    response = await users.http.patch(path, content='{"email": "new@example.com"}', headers=headers)
    assert response.json() == account | {"email": "new@example.com", "updated_at": response.json()["updated_at"]}
    assert response.json()["updated_at"] > account["updated_at"]
    response = await users.http.patch(path, content='{"full_name": null}', headers=headers)
    assert response.json()["full_name"] is None
    response = await users.http.patch(path, content="{}", headers=headers)
    assert (response.status_code, response.json()["email"]) == (200, "new@example.com")


async def test_an_id_that_is_nobodys_is_not_found(users: Users) -> None:
    for user_id in ("1", "x", NOBODY, NOBODY.upper(), NOBODY.replace("-", ""), f"urn:uuid:{NOBODY}"):
        for method, body in (("GET", None), ("PUT", SEED_REPLACE), ("PATCH", {}), ("DELETE", None)):
            response = await users.http.request(method, f"/users/{user_id}", json=body, headers=users.admin)
            assert_problem(response, 404)
            assert (response.json()["title"], response.json()["detail"]) == ("User not found", "User not found")


@pytest.mark.parametrize("way", ["delete", "disable", "demote", "replace"])
async def test_the_last_enabled_administrator_stays(users: Users, way: str) -> None:
    admin = await users.create("root", roles=["user", "admin"])
    await users.create("former", roles=["admin"], disabled=True)
    path = f"/users/{admin['id']}"

    async def lose_the_administrator() -> int:
        match way:
            case "delete":
                response = await users.http.delete(path, headers=users.admin)
            case "disable":
                response = await users.http.patch(path, json={"disabled": True}, headers=users.admin)
            case "demote":
                response = await users.http.patch(path, json={"roles": ["user"]}, headers=users.admin)
            case _:
                response = await users.http.put(path, json=SEED_REPLACE | {"roles": []}, headers=users.admin)
        return response.status_code

    assert await lose_the_administrator() == 409
    assert (await users.http.get(path, headers=users.admin)).json() == admin
    await users.create("second", roles=["admin"])
    assert await lose_the_administrator() == 200


@pytest.mark.parametrize("server", ["postgresql"], indirect=True)
async def test_who_becomes_an_administrator_while_they_are_deleted_makes_nobody_wait_for_each_other(
    users: Users, database_url: str
) -> None:
    """SQLite lets one writer in at a time."""
    ada, _ = await users.create("ada"), await users.create("root", roles=["admin"])

    async def promote_and_demote() -> list[int]:
        path = f"/users/{ada['id']}"
        answers = [
            await users.http.patch(path, json={"roles": roles}, headers=users.admin) for roles in (["admin"], ["user"])
        ]
        return [answer.status_code for answer in answers]

    async with open_database(database_url) as database, open_database(database_url) as other:
        async with database.begin() as session:
            account = await accounts.find(session, ada["id"])
            await accounts.keep_an_administrator(session, account)
            changing = asyncio.create_task(promote_and_demote())
            await eventually(partial(somebody_waits, other))
            await accounts.lock(session, account)
        assert await changing == [200, 200]


async def test_two_administrators_who_remove_each_other_at_once_do_not_both_succeed(users: Users) -> None:
    admins = [await users.create(name, roles=["user", "admin"]) for name in ("one", "two")]
    responses = await asyncio.gather(
        *(users.http.delete(f"/users/{admin['id']}", headers=users.admin) for admin in admins)
    )
    assert sorted(response.status_code for response in responses) == [200, 409]


async def test_deleting_one_account_twice_at_once_succeeds_once(users: Users) -> None:
    account = await users.create("ada")
    responses = await asyncio.gather(
        *(users.http.delete(f"/users/{account['id']}", headers=users.admin) for _ in range(5))
    )
    assert sorted(response.status_code for response in responses) == [200, 404, 404, 404, 404]


async def test_a_name_is_free_again_when_its_account_is_deleted(users: Users) -> None:
    account = await users.create("ada", password=PASSWORD)
    await users.http.delete(f"/users/{account['id']}", headers=users.admin)
    assert await users.sign_in("ada") is None
    assert (await users.create("ada"))["id"] != account["id"]
