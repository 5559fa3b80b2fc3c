"""Who may create an account, and with what."""

from typing import Any

from users_service.dependencies import get_passwords
from users_service.passwords import Passwords

from tests.issuer import Issuer
from tests.unit.users.driver import PASSWORD, Users, assert_problem, serving, users_settings

ADA = {"username": "ada", "email": "ada@example.com"}


async def test_everybody_signs_up_where_it_is_open_and_then_signs_in(open_users: Users) -> None:
    response = await open_users.http.post("/users", json=ADA | {"password": PASSWORD})
    assert response.status_code == 201
    account = response.json()
    assert account["roles"] == ["user"]
    assert await open_users.sign_in("ada") == {"id": account["id"], "roles": ["user"]}
    assert (await open_users.http.get("/users/me", headers=open_users.own(account))).json() == account


async def test_a_sign_up_without_a_password_is_422_and_names_it(open_users: Users) -> None:
    for headers in ({}, open_users.issuer.bearer(scope="profile")):
        for body in (ADA, ADA | {"password": None}):
            assert_problem(await open_users.http.post("/users", json=body, headers=headers), 422, "body.password")


async def test_a_sign_up_gives_itself_no_rights(open_users: Users) -> None:
    values: list[tuple[str, Any]] = [("roles", ["admin"]), ("roles", ["user"]), ("disabled", False)]
    for field, value in values:
        body = ADA | {"password": PASSWORD, field: value}
        for headers in ({}, open_users.issuer.bearer(scope="profile users:read")):
            response = await open_users.http.post("/users", json=body, headers=headers)
            assert_problem(response, 403, f"body.{field}")
    assert (await open_users.http.get("/users", headers=open_users.admin)).json() == []


async def test_credentials_that_are_not_a_valid_token_are_401_where_sign_up_is_open(open_users: Users) -> None:
    expired = open_users.issuer.bearer(scope="users:write", exp=1)["Authorization"]
    for authorization in ("Bearer x", "Bearer", "Basic YTpi", "", expired):
        headers = {"Authorization": authorization}
        response = await open_users.http.post("/users", json=ADA | {"password": PASSWORD}, headers=headers)
        assert_problem(response, 401)


async def test_a_refused_caller_is_told_nothing_about_names(users: Users) -> None:
    await users.create("ada")
    for headers, status in (({}, 401), (users.issuer.bearer(scope="profile"), 403)):
        assert_problem(await users.http.post("/users", json=ADA | {"password": PASSWORD}, headers=headers), status)
        assert_problem(await users.http.post("/users", json={"username": "?"}, headers=headers), status)


async def test_an_administrator_sets_roles_and_disabled(users: Users) -> None:
    account = await users.create("ada", password=PASSWORD, roles=["admin"], disabled=True)
    assert (account["roles"], account["disabled"]) == (["admin"], True)
    assert await users.sign_in("ada") is None


async def test_an_account_without_a_password_lets_nobody_in_until_one_is_set(users: Users) -> None:
    seed = {"id": 1, "username": "john_doe", "email": "john.doe@example.com", "full_name": "John Doe"}
    response = await users.http.post("/users/", json=seed, headers=users.admin)
    account = response.json()
    for password in ("", "None", PASSWORD):
        assert await users.sign_in("john_doe", password) is None
    path = f"/users/{account['id']}/password"
    assert (await users.http.post(path, json={"new_password": PASSWORD}, headers=users.admin)).status_code == 204
    assert await users.sign_in("john_doe") == {"id": account["id"], "roles": ["user"]}


async def test_sign_ups_from_one_address_are_limited_and_administrators_are_not(
    database_url: str, issuer: Issuer, cheap_passwords: Passwords
) -> None:
    settings = users_settings(database_url, issuer, sign_up="open", sign_ups_per_hour=3)
    async with serving(settings, issuer) as users:
        users.app.dependency_overrides[get_passwords] = lambda: cheap_passwords
        for headers in ({}, issuer.bearer(scope="profile"), {}):
            assert_problem(await users.http.post("/users", json=ADA, headers=headers), 422)
        for headers in ({}, issuer.bearer(scope="profile")):
            refused = await users.http.post("/users", json=ADA | {"password": PASSWORD}, headers=headers)
            assert_problem(refused, 429)
            assert 1 <= int(refused.headers["retry-after"]) <= 3600
        await users.create("ada")
