"""Who may reach which account, and which of its fields: every route, every kind of caller."""

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest
from fastapi.routing import APIRoute
from prometheus_client import CollectorRegistry
from servicekit.auth import SCOPES, Principal
from servicekit.database import Database, open_database
from sqlalchemy.ext.asyncio import AsyncSession
from users_service import access, accounts, deletion
from users_service.access import ADMINISTRATION
from users_service.attempts import Guard
from users_service.errors import ScopeExceeded
from users_service.routers import internal
from users_service.tables import Account

from tests.eventually import eventually
from tests.unit.users.driver import NOBODY, PASSWORD, Users, assert_problem, somebody_waits

CALLERS = ("nobody", "expired", "unrelated scope", "other user", "owner", "reader", "writer")
REPLACEMENT = {"username": "renamed", "email": "renamed@example.com"}
CHANGE_PASSWORD = {"current_password": PASSWORD, "new_password": "another good password"}
NEW_USER = {"username": "new", "email": "new@example.com", "password": PASSWORD}

# Method, path, body, and the status for each of CALLERS. `{id}` is the owner's account.
ROUTES: list[tuple[str, str, Any, tuple[int, ...]]] = [
    ("POST", "/users", NEW_USER, (401, 401, 403, 403, 403, 403, 201)),
    ("GET", "/users", None, (401, 401, 403, 403, 403, 200, 403)),
    ("GET", "/users/{id}", None, (401, 401, 403, 404, 200, 200, 403)),
    ("PUT", "/users/{id}", REPLACEMENT, (401, 401, 403, 404, 200, 403, 200)),
    ("PATCH", "/users/{id}", {"full_name": "Changed"}, (401, 401, 403, 404, 200, 403, 200)),
    ("DELETE", "/users/{id}", None, (401, 401, 403, 404, 200, 403, 200)),
    ("DELETE", "/users/{id}?erase=true", None, (401, 401, 403, 404, 200, 403, 200)),
    ("POST", "/users/{id}/restore", None, (401, 401, 403, 403, 403, 403, 200)),
    ("GET", "/events", None, (401, 401, 403, 403, 403, 200, 403)),
    ("GET", "/users/me/export", None, (401, 401, 403, 200, 200, 403, 403)),
    ("GET", "/users/me", None, (401, 401, 403, 200, 200, 403, 403)),
    ("PATCH", "/users/me", {"full_name": "Changed"}, (401, 401, 403, 200, 200, 403, 403)),
    ("POST", "/users/me/password", CHANGE_PASSWORD, (401, 401, 403, 204, 204, 403, 403)),
    ("POST", "/users/{id}/password", {"new_password": PASSWORD}, (401, 401, 403, 403, 403, 403, 204)),
    ("POST", "/internal/credentials/verify", {"username": "ada", "password": "x"}, (401, 401, 403, 403, 403, 403, 403)),
    ("GET", "/internal/accounts/{id}", None, (401, 401, 403, 403, 403, 403, 403)),
    ("GET", "/internal/events?after=0", None, (401, 401, 403, 403, 403, 403, 403)),
]


def headers_of(caller: str, users: Users, owner: Mapping[str, Any], other: Mapping[str, Any]) -> Mapping[str, str]:
    match caller:
        case "nobody":
            return {}
        case "expired":
            return users.issuer.bearer(subject=owner["id"], scope="profile users:read users:write", exp=1)
        case "unrelated scope":
            return users.own(owner, "inference:predict inference:admin")
        case "other user":
            return users.own(other)
        case "owner":
            return users.own(owner)
        case "reader":
            return users.issuer.bearer(scope="users:read")
        case _:
            return users.issuer.bearer(scope="users:write")


@pytest.mark.parametrize(
    ("method", "path", "body", "statuses"), ROUTES, ids=[f"{method} {path}" for method, path, *_ in ROUTES]
)
async def test_each_caller_reaches_what_they_may(
    users: Users, method: str, path: str, body: Any, statuses: tuple[int, ...]
) -> None:
    other = await users.create("eve", password=PASSWORD)
    for caller, status in zip(CALLERS, statuses, strict=True):
        owner = await users.create("ada", password=PASSWORD)
        response = await users.http.request(
            method, path.format(id=owner["id"]), json=body, headers=headers_of(caller, users, owner, other)
        )
        assert response.status_code == status, (caller, response.text)
        if status >= 400:
            assert_problem(response, status)
        if status == 401:
            assert response.headers["www-authenticate"].startswith("Bearer")
        if status == 403:
            assert "insufficient_scope" in response.headers["www-authenticate"]
        await users.http.delete(f"/users/{owner['id']}", headers=users.admin)


# Method, path, body, and the status for who has all the scopes of an administrator. `{user}`, `{admin}` and
# `{deleted}` are accounts; the last two have the role `admin`.
ABOUT_ADMINISTRATORS: list[tuple[str, str, Any, int]] = [
    ("POST", "/users", NEW_USER | {"roles": ["user", "admin"]}, 201),
    ("PATCH", "/users/{user}", {"roles": ["admin"]}, 200),
    ("PUT", "/users/{user}", REPLACEMENT | {"roles": ["user", "admin"]}, 200),
    ("PATCH", "/users/{admin}", {"email": "mine@example.com"}, 200),
    ("PATCH", "/users/{admin}", {"disabled": True}, 200),
    ("PATCH", "/users/{admin}", {"roles": ["user"]}, 200),
    ("PUT", "/users/{admin}", REPLACEMENT, 200),
    ("DELETE", "/users/{admin}", None, 200),
    ("DELETE", "/users/{admin}?erase=true", None, 200),
    ("DELETE", "/users/{deleted}?erase=true", None, 200),
    ("POST", "/users/{deleted}/restore", None, 200),
    ("POST", "/users/{admin}/password", {"new_password": PASSWORD}, 204),
]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    ABOUT_ADMINISTRATORS,
    ids=[f"{method} {path} {' '.join(body or ())}" for method, path, body, _ in ABOUT_ADMINISTRATORS],
)
async def test_who_may_not_do_all_that_an_administrator_may_neither_makes_nor_changes_one(
    users: Users, method: str, path: str, body: Any, status: int
) -> None:
    await users.create("root", roles=["admin"])  # so that no other is the last administrator
    user = await users.create("ada", password=PASSWORD)
    admin = await users.create("grace", password=PASSWORD, roles=["user", "admin"])
    deleted = await users.create("gone", password=PASSWORD, roles=["admin"])
    await users.http.delete(f"/users/{deleted['id']}", headers=users.admin)
    url = path.format(user=user["id"], admin=admin["id"], deleted=deleted["id"])
    events_before = (await users.http.get("/events", headers=users.admin)).json()
    for missing in sorted(ADMINISTRATION - {"users:write"}):
        headers = users.issuer.bearer(scope=" ".join(ADMINISTRATION - {missing}))
        response = await users.http.request(method, url, json=body, headers=headers)
        assert_problem(response, 403)
        assert response.json()["type"].endswith(":scope-exceeded")
        assert response.headers["www-authenticate"] == f'Bearer error="insufficient_scope", scope="{missing}"'
    assert (await users.http.get("/events", headers=users.admin)).json() == events_before
    assert await users.sign_in("grace") is not None
    assert (await users.http.request(method, url, json=body, headers=users.admin)).status_code == status


@pytest.mark.parametrize(("method", "body"), [("DELETE", None), ("PATCH", {"disabled": True})])
async def test_who_may_not_change_an_administrator_is_not_told_that_they_are_the_last(
    users: Users, method: str, body: Any
) -> None:
    admin = await users.create("grace", roles=["admin"])
    headers = users.issuer.bearer(scope="users:write")
    assert_problem(await users.http.request(method, f"/users/{admin['id']}", json=body, headers=headers), 403)


async def test_who_has_every_scope_but_that_of_ones_own_account_administers(users: Users) -> None:
    """A client has none."""
    headers = users.issuer.bearer(subject="a client", scope=" ".join(set(SCOPES) - {"profile"}))
    body = NEW_USER | {"roles": ["admin"]}
    assert (await users.http.post("/users", json=body, headers=headers)).status_code == 201


async def test_who_may_read_every_account_is_told_which_scope_a_change_needs(users: Users) -> None:
    ada, eve = await users.create("ada"), await users.create("eve")
    headers = users.own(eve, "profile users:read")
    response = await users.http.patch(f"/users/{ada['id']}", json={"full_name": "Changed"}, headers=headers)
    assert_problem(response, 403)
    assert response.headers["www-authenticate"] == 'Bearer error="insufficient_scope", scope="users:write"'


async def test_administrators_change_their_own_account_as_users_do_and_get_no_further_by_it(users: Users) -> None:
    await users.create("root", roles=["admin"])
    account = await users.create("ada", password=PASSWORD, roles=["user", "admin"])
    path = f"/users/{account['id']}"
    for narrowed in ("profile", "profile users:write"):
        headers = users.own(account, narrowed)
        for own_path in ("/users/me", path):
            assert (await users.http.patch(own_path, json={"full_name": "Ada"}, headers=headers)).status_code == 200
            promotion = await users.http.patch(own_path, json={"roles": ["user", "admin"]}, headers=headers)
            assert_problem(promotion, 403)
        reset = await users.http.post(f"{path}/password", json={"new_password": "a stolen account"}, headers=headers)
        assert_problem(reset, 403)
    assert await users.sign_in("ada") == {"id": account["id"], "roles": ["user", "admin"]}
    assert (await users.http.delete(path, headers=users.own(account, "profile users:write"))).status_code == 200


@pytest.mark.parametrize("change", ["patch", "delete", "erase"])
async def test_who_becomes_an_administrator_meanwhile_is_out_of_reach(
    users: Users, database_url: str, change: str
) -> None:
    account = await users.create("ada", password=PASSWORD)
    await users.create("root", roles=["admin"])
    caller = Principal("a client", "a client", frozenset({"users:write"}), None)

    async def make(found: Account, session: AsyncSession, database: Database) -> None:
        only_if = access.ranked(caller, lambda _account: None)
        match change:
            case "patch":
                await accounts.change(session, found, {"roles": ["user"]}, actor=None, only_if=only_if)
            case "delete":
                await deletion.delete(session, found, actor=None, only_if=only_if)
            case _:
                guard = Guard(database, CollectorRegistry(), key=b"", per_pair=1, per_address=1, per_name=1)
                await deletion.erase(session, found, guard, actor=None, only_if=only_if)

    async with open_database(database_url) as database, database.sessions() as session:
        async with session.begin():
            found = await access.find_reachable(session, caller, account["id"], scope="users:write")
        promotion = {"roles": ["user", "admin"]}
        assert (await users.http.patch(f"/users/{account['id']}", json=promotion, headers=users.admin)).is_success
        async with session.begin():
            with pytest.raises(ScopeExceeded):
                await make(found, session, database)


@pytest.mark.parametrize("server", ["postgresql"], indirect=True)
@pytest.mark.parametrize(
    ("method", "query", "body"),
    [
        ("PATCH", "", {"full_name": "Changed"}),
        ("PUT", "", REPLACEMENT),
        ("DELETE", "", None),
        ("DELETE", "?erase=1", None),
    ],
)
async def test_who_becomes_an_administrator_while_they_are_changed_is_not(
    users: Users, database_url: str, method: str, query: str, body: Any
) -> None:
    """SQLite lets one writer in at a time."""
    await users.create("root", roles=["admin"])
    account = await users.create("ada")
    url, writer = f"/users/{account['id']}{query}", users.issuer.bearer(scope="users:write")
    async with open_database(database_url) as database, open_database(database_url) as other:
        async with database.begin() as session:
            found = await accounts.find(session, account["id"])
            found.roles = ["user", "admin"]
            await session.flush()
            changing = asyncio.create_task(users.http.request(method, url, json=body, headers=writer))
            await eventually(partial(somebody_waits, other))
        assert_problem(await changing, 403)
    after = (await users.http.get(f"/users/{account['id']}", headers=users.admin)).json()
    assert (after["username"], after["full_name"], after["roles"]) == ("ada", None, ["user", "admin"])


async def test_no_route_is_missing_from_the_table(users: Users) -> None:
    document = (await users.http.get("/openapi/users.json")).json()
    routes = {(method.upper(), path) for path, operations in document["paths"].items() for method in operations}
    routes |= {
        (method, route.path)
        for route in internal.router.routes
        if isinstance(route, APIRoute)
        for method in route.methods or ()
    }
    covered = {(method, path.partition("?")[0]) for method, path, *_ in ROUTES}
    assert {(method, path.replace("{user_id}", "{id}").replace("{account_id}", "{id}")) for method, path in routes} == (
        covered
    )


# A field of an account, another value for it, and what comes of it where its user and where an administrator sets it.
FIELDS: dict[str, tuple[Any, str, str]] = {
    "username": ("renamed", "changed", "changed"),
    "email": ("renamed@example.com", "changed", "changed"),
    "full_name": ("Ada King", "changed", "changed"),
    "roles": (["user", "admin"], "forbidden", "changed"),
    "disabled": (True, "forbidden", "changed"),
    "id": (NOBODY, "ignored", "ignored"),
    "created_at": ("2000-01-01T00:00:00Z", "ignored", "ignored"),
    "updated_at": ("2000-01-01T00:00:00Z", "ignored", "ignored"),
    "password_hash": ("x", "unknown", "unknown"),
    "username_canonical": ("x", "unknown", "unknown"),
}


@pytest.mark.parametrize("field", FIELDS)
async def test_each_caller_sets_the_fields_that_they_may(users: Users, field: str) -> None:
    value, by_its_user, by_an_administrator = FIELDS[field]
    statuses = {"changed": 200, "ignored": 200, "forbidden": 403, "unknown": 422}
    await users.create("root", roles=["admin"])  # so that no other is the last administrator
    stranger = await users.create("eve")
    for method, path in (("PATCH", "/users/me"), ("PATCH", "/users/{id}"), ("PUT", "/users/{id}")):
        for is_administrator in (False, True):
            if is_administrator and path == "/users/me":
                continue  # `/users/me` is the caller's, who has these scopes or has not
            before = await users.create("ada")
            body = {field: value}
            if method == "PUT":
                body = {"username": "ada", "email": "ada@example.com"} | body
            url = path.format(id=before["id"])
            if path != "/users/me":
                refused = await users.http.request(method, url, json=body, headers=users.own(stranger))
                assert refused.status_code == (422 if by_its_user == "unknown" else 404)
            headers = users.admin if is_administrator else users.own(before)
            outcome = by_an_administrator if is_administrator else by_its_user
            response = await users.http.request(method, url, json=body, headers=headers)
            assert response.status_code == statuses[outcome], (method, path, is_administrator, response.text)
            after = (await users.http.get(f"/users/{before['id']}", headers=users.admin)).json()
            expected = before | ({field: value} if outcome == "changed" else {})
            assert after | {"updated_at": ""} == expected | {"updated_at": ""}
            await users.http.delete(f"/users/{before['id']}", headers=users.admin)


async def test_no_field_is_missing_from_the_table(users: Users) -> None:
    schemas = (await users.http.get("/openapi/users.json")).json()["components"]["schemas"]
    for name in ("UserPatch", "UserReplacement"):
        assert schemas[name]["properties"].keys() == FIELDS.keys() - {"password_hash", "username_canonical"}
    assert schemas["User"]["properties"].keys() <= FIELDS.keys()
    assert schemas["NewUser"]["properties"].keys() == schemas["UserPatch"]["properties"].keys() | {"password"}


async def test_another_users_account_looks_like_one_that_does_not_exist(users: Users) -> None:
    ada, eve = await users.create("ada"), await users.create("eve")
    for method, body in (("GET", None), ("PUT", REPLACEMENT), ("PATCH", {"roles": ["admin"]}), ("DELETE", None)):
        answers = []
        for user_id in (ada["id"], NOBODY):
            response = await users.http.request(method, f"/users/{user_id}", json=body, headers=users.own(eve))
            assert_problem(response, 404)
            answers.append(response.json() | {"instance": ""})
        assert answers[0] == answers[1]
    assert (await users.http.get(f"/users/{ada['id']}", headers=users.admin)).json() == ada


async def test_users_set_neither_their_own_roles_nor_disabled(users: Users) -> None:
    account = await users.create("ada")
    values: list[tuple[str, Any]] = [("roles", ["user"]), ("roles", []), ("disabled", False), ("disabled", True)]
    for name, value in values:
        for path in ("/users/me", f"/users/{account['id']}"):
            response = await users.http.patch(path, json={name: value}, headers=users.own(account))
            assert_problem(response, 403, f"body.{name}")
        response = await users.http.put(
            f"/users/{account['id']}", json=REPLACEMENT | {name: value}, headers=users.own(account)
        )
        assert_problem(response, 403, f"body.{name}")
    assert (await users.http.get("/users/me", headers=users.own(account))).json() == account


@pytest.mark.parametrize("end", ["deleted", "disabled"])
async def test_a_token_without_an_account_is_401_on_every_own_route(users: Users, end: str) -> None:
    account = await users.create("ada", password=PASSWORD)
    path = f"/users/{account['id']}"
    if end == "deleted":
        await users.http.delete(path, headers=users.admin)
    else:
        await users.http.patch(path, json={"disabled": True}, headers=users.admin)
    for method, own_path, body in (
        ("GET", "/users/me", None),
        ("PATCH", "/users/me", {}),
        ("POST", "/users/me/password", CHANGE_PASSWORD),
        ("GET", "/users/me/export", None),
        ("GET", path, None),
        ("PUT", path, REPLACEMENT),
        ("PATCH", path, {}),
        ("DELETE", path, None),
    ):
        response = await users.http.request(method, own_path, json=body, headers=users.own(account))
        assert_problem(response, 401)
        assert response.headers["www-authenticate"] == 'Bearer error="invalid_token"'


async def test_a_clients_own_token_has_no_profile(users: Users) -> None:
    response = await users.http.get("/users/me", headers=users.issuer.bearer(subject="some-client", scope="profile"))
    assert_problem(response, 401)
