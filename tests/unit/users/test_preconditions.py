"""Conditional requests: nobody overwrites what they have not seen."""

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from tests.issuer import Issuer
from tests.unit.users.driver import Users, assert_problem, serving, users_settings

REPLACEMENT = {"username": "renamed", "email": "renamed@example.com"}
CHANGES: list[tuple[str, Any]] = [("PUT", REPLACEMENT), ("PATCH", {"full_name": "Changed"}), ("DELETE", None)]


async def read_tag(users: Users, account: Mapping[str, Any]) -> str:
    response = await users.http.get(f"/users/{account['id']}", headers=users.admin)
    return response.headers["etag"]


async def test_each_answer_with_one_account_has_its_tag(users: Users) -> None:
    new = {"username": "ada", "email": "ada@example.com"}
    created = await users.http.post("/users", json=new, headers=users.admin)
    account, path = created.json(), created.headers["location"]
    assert created.headers["etag"] == await read_tag(users, account)
    me = await users.http.get("/users/me", headers=users.own(account))
    assert me.headers["etag"] == created.headers["etag"]
    tags = {created.headers["etag"]}
    for method, where, body, caller in (
        ("PUT", path, REPLACEMENT, users.admin),
        ("PATCH", path, {"full_name": "Ada"}, users.admin),
        ("PATCH", "/users/me", {"full_name": "Ada L"}, users.own(account)),
    ):
        answer = await users.http.request(method, where, json=body, headers=caller)
        assert answer.headers["etag"] == await read_tag(users, account)
        tags.add(answer.headers["etag"])
    await users.http.delete(path, headers=users.admin)
    restored = await users.http.post(f"{path}/restore", headers=users.admin)
    assert restored.headers["etag"] == await read_tag(users, account)
    tags.add(restored.headers["etag"])
    assert len(tags) == 5


@pytest.mark.parametrize(("method", "body"), CHANGES)
async def test_a_change_of_what_was_changed_since_is_412(users: Users, method: str, body: Any) -> None:
    account = await users.create("ada")
    path, stale = f"/users/{account['id']}", await read_tag(users, account)
    await users.http.patch(path, json={"full_name": "Somebody else was faster"}, headers=users.admin)
    fresh = await read_tag(users, account)
    for tags in (stale, f"W/{fresh}", f'"x", {stale}', '""'):
        response = await users.http.request(method, path, json=body, headers={**users.admin, "If-Match": tags})
        assert_problem(response, 412)
        assert await read_tag(users, account) == fresh
    for_all = {**users.admin, "If-Match": f'"x" , {fresh},{stale}'}
    assert (await users.http.request(method, path, json=body, headers=for_all)).status_code == 200


async def test_any_version_is_meant_by_a_star(users: Users) -> None:
    account = await users.create("ada")
    headers = {**users.own(account), "If-Match": "*"}
    assert (await users.http.patch("/users/me", json={"full_name": "A"}, headers=headers)).status_code == 200


async def test_what_is_no_list_of_tags_is_422_and_named(users: Users) -> None:
    account = await users.create("ada")
    for value in ("", "x", '"a" "b"', '"a",', "W/x", "*, *"):
        for method, header in (("PATCH", "If-Match"), ("GET", "If-None-Match")):
            response = await users.http.request(
                method, f"/users/{account['id']}", json={}, headers={**users.admin, header: value}
            )
            assert_problem(response, 422, f"header.{header}")


async def test_of_writers_at_once_who_read_the_same_one_succeeds(users: Users) -> None:
    account = await users.create("ada")
    headers = {**users.admin, "If-Match": await read_tag(users, account)}
    responses = await asyncio.gather(
        *(
            users.http.patch(f"/users/{account['id']}", json={"full_name": f"Writer {number}"}, headers=headers)
            for number in range(6)
        )
    )
    assert sorted(response.status_code for response in responses) == [200] + [412] * 5
    (winner,) = [response for response in responses if response.status_code == 200]
    assert (await users.http.get(f"/users/{account['id']}", headers=users.admin)).json() == winner.json()


async def test_what_was_deleted_is_erased_only_as_it_was_seen(users: Users) -> None:
    account = await users.create("ada")
    path = f"/users/{account['id']}"
    seen = await read_tag(users, account)
    await users.http.patch(path, json={"full_name": "Ada"}, headers=users.admin)
    last = await read_tag(users, account)
    await users.http.delete(path, headers=users.admin)
    for tag, status in ((seen, 412), (last, 200)):
        response = await users.http.delete(f"{path}?erase=true", headers={**users.admin, "If-Match": tag})
        assert response.status_code == status, response.text


async def test_writers_of_different_fields_at_once_lose_nothing(users: Users) -> None:
    account = await users.create("ada")
    changes = [{"full_name": "Ada"}, {"email": "new@example.com"}, {"username": "lovelace"}, {"roles": ["admin"]}]
    path = f"/users/{account['id']}"
    responses = await asyncio.gather(*(users.http.patch(path, json=body, headers=users.admin) for body in changes))
    assert {response.status_code for response in responses} == {200}
    after = (await users.http.get(path, headers=users.admin)).json()
    for body in changes:
        assert after | body == after


async def test_where_the_setting_asks_for_it_a_change_without_if_match_is_428(
    database_url: str, issuer: Issuer
) -> None:
    async with serving(users_settings(database_url, issuer, require_if_match=True), issuer) as users:
        account = await users.create("ada")
        path = f"/users/{account['id']}"
        responses: list[httpx.Response] = [
            await users.http.request(method, path, json=body, headers=users.admin) for method, body in CHANGES
        ]
        responses.append(await users.http.patch("/users/me", json={}, headers=users.own(account)))
        for response in responses:
            assert_problem(response, 428)
        headers = {**users.admin, "If-Match": await read_tag(users, account)}
        assert (await users.http.put(path, json=REPLACEMENT, headers=headers)).status_code == 200


async def test_what_is_known_is_not_sent_again(users: Users) -> None:
    account = await users.create("ada")
    tag = await read_tag(users, account)
    for path, headers in ((f"/users/{account['id']}", users.admin), ("/users/me", users.own(account))):
        for known in (tag, f'"x", W/{tag}', "*"):
            response = await users.http.get(path, headers={**headers, "If-None-Match": known})
            assert (response.status_code, response.content, response.headers["etag"]) == (304, b"", tag)
        assert (await users.http.get(path, headers={**headers, "If-None-Match": '"x"'})).json() == account
