"""The list of accounts: filters, orders and pages."""

import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from users_service.cursors import Cursors
from users_service.errors import InvalidCursor
from users_service.shared_keys import KEY_BYTES

from tests.unit.users.driver import Users, assert_problem


def links(header: str) -> dict[str, str]:
    """Return the targets of a `Link` header by their relation."""
    return {relation: target for target, relation in re.findall(r'<([^>]+)>; rel="(\w+)"', header)}


async def names(users: Users, **params: Any) -> list[str]:
    response = await users.http.get("/users", params=params, headers=users.admin)
    assert response.status_code == 200, response.text
    return [account["username"] for account in response.json()]


async def create_some(users: Users) -> None:
    await users.create("Bob", email="z@example.com", roles=["admin"])
    await users.create("alice", email="bo@example.com", disabled=True)
    await users.create("bo_b", email="alice@example.org")
    await users.create("carol", full_name="Alicé Ångström")


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, ["Bob", "alice", "bo_b", "carol"]),
        ({"sort": "-created"}, ["carol", "bo_b", "alice", "Bob"]),
        ({"sort": "username"}, ["alice", "bo_b", "Bob", "carol"]),
        ({"sort": "-username"}, ["carol", "Bob", "bo_b", "alice"]),
        ({"sort": "email"}, ["bo_b", "alice", "carol", "Bob"]),
        ({"username": "BO"}, ["bo_b", "Bob"]),
        ({"username": "bo", "sort": "created"}, ["Bob", "bo_b"]),
        ({"username": "bo_"}, ["bo_b"]),
        ({"username": "%"}, []),
        ({"email": "ALICE@example"}, ["bo_b"]),
        ({"q": "BO"}, ["Bob", "alice", "bo_b"]),
        ({"q": "alice"}, ["alice", "bo_b"]),
        ({"q": "alic"}, ["alice", "bo_b", "carol"]),
        ({"q": "ALICÉ å"}, ["carol"]),
        ({"q": "ångström"}, []),
        ({"disabled": "true"}, ["alice"]),
        ({"disabled": "false", "q": "alice"}, ["bo_b"]),
        ({"role": "admin"}, ["Bob"]),
        ({"role": "user"}, ["alice", "bo_b", "carol"]),
        ({"role": "admin", "disabled": "true"}, []),
    ],
)
async def test_a_filter_keeps_what_it_names_in_order(users: Users, params: dict[str, str], expected: list[str]) -> None:
    await create_some(users)
    assert await names(users, **params) == expected


@pytest.mark.parametrize("params", [{}, {"sort": "-email"}, {"username": "user"}, {"disabled": "false", "q": "u"}])
async def test_pages_follow_their_links_through_every_account_once(users: Users, params: dict[str, str]) -> None:
    for number in (3, 1, 4, 0, 2):
        await users.create(f"user{number}")
    everything = await names(users, **params)
    response = await users.http.get("/users", params={"limit": 2, **params}, headers=users.admin)
    first, seen, pages = links(response.headers["link"])["first"], [], 0
    while True:
        seen += [account["username"] for account in response.json()]
        pages += 1
        targets = links(response.headers["link"])
        assert targets["first"] == first
        if "next" not in targets:
            break
        assert {"limit", "cursor"} | params.keys() == parse_qs(urlsplit(targets["next"]).query).keys()
        response = await users.http.get(targets["next"], headers=users.admin)
        assert response.status_code == 200
    assert (seen, pages) == (everything, 3)
    response = await users.http.get(first, headers=users.admin)
    assert [account["username"] for account in response.json()] == everything[:2]


async def test_a_page_that_ends_with_the_last_account_has_no_next(users: Users) -> None:
    await users.create("ada")
    await users.create("eve")
    response = await users.http.get("/users?limit=2", headers=users.admin)
    assert len(response.json()) == 2
    assert links(response.headers["link"]).keys() == {"first"}


async def test_what_happens_between_two_pages_skips_and_repeats_nobody(users: Users) -> None:
    accounts = [await users.create(f"user{number}") for number in range(4)]
    response = await users.http.get("/users?limit=2&sort=username", headers=users.admin)
    await users.http.delete(f"/users/{accounts[1]['id']}", headers=users.admin)
    await users.create("user0a")
    response = await users.http.get(links(response.headers["link"])["next"], headers=users.admin)
    assert [account["username"] for account in response.json()] == ["user2", "user3"]


async def test_a_cursor_is_of_one_list_and_says_nothing(users: Users) -> None:
    for number in range(3):
        await users.create(f"user{number}")
    query = "/users?limit=1&sort=email&username=u"
    target = links((await users.http.get(query, headers=users.admin)).headers["link"])["next"]
    assert "user0" not in target
    cursor = parse_qs(urlsplit(target).query)["cursor"][0]
    for other in ("sort=-email&username=u", "sort=email", "sort=email&username=us", "", "sort=email&username=u&q=u"):
        response = await users.http.get(f"/users?{other}&cursor={cursor}", headers=users.admin)
        assert_problem(response, 422, "query.cursor")
    assert (await users.http.get(f"{query}&limit=2&cursor={cursor}", headers=users.admin)).status_code == 200


async def test_a_bad_parameter_is_422_and_named(users: Users) -> None:
    for name, values in {
        "limit": ("0", "201", "x", ""),
        "cursor": ("x", "", "A" * 40, "A" * 39 + "!", "A" * 2001),
        "sort": ("name", "--email"),
        "role": ("root",),
        "disabled": ("maybe",),
        "username": ("", "a" * 65, "a\x00"),
        "q": ("", "\n"),
    }.items():
        for value in values:
            response = await users.http.get("/users", params={name: value}, headers=users.admin)
            assert_problem(response, 422, f"query.{name}")


def test_a_changed_cursor_is_refused() -> None:
    cursors = Cursors(bytes(KEY_BYTES))
    cursor = cursors.write("ada@example.com", bound_to="list")
    assert cursors.read(cursor, bound_to="list") == "ada@example.com"
    for place in range(0, len(cursor) - 1, 7):
        changed = cursor[:place] + ("A" if cursor[place] != "A" else "B") + cursor[place + 1 :]
        with pytest.raises(InvalidCursor):
            cursors.read(changed, bound_to="list")
    with pytest.raises(InvalidCursor):
        Cursors(bytes(31) + b"x").read(cursor, bound_to="list")


def test_a_position_is_sealed_anew_each_time() -> None:
    """With one nonce for two, AES-GCM gives away what both positions have in common, and how to seal others."""
    cursors = Cursors(bytes(KEY_BYTES))
    starts = {cursors.write("ada@example.com", bound_to="list")[:16] for _ in range(100)}
    assert len(starts) == 100
