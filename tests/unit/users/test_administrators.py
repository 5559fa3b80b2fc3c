"""The first administrator."""

import asyncio

import pytest
from structlog.testing import capture_logs

from tests.issuer import Issuer
from tests.unit.users.driver import PASSWORD, Users, serving, users_settings


async def list_names(users: Users) -> list[str]:
    return [account["username"] for account in (await users.http.get("/users", headers=users.admin)).json()]


async def test_the_first_start_creates_an_administrator_who_can_sign_in(database_url: str, issuer: Issuer) -> None:
    settings = users_settings(database_url, issuer, admin_password=PASSWORD, admin_username="root")
    async with serving(settings, issuer) as users:
        assert (await users.sign_in("root"))["roles"] == ["user", "admin"]
    async with serving(settings, issuer) as users:
        assert await list_names(users) == ["root"]


async def test_a_later_start_creates_none_beside_another_administrator(database_url: str, issuer: Issuer) -> None:
    async with serving(users_settings(database_url, issuer), issuer) as users:
        await users.create("boss", roles=["admin"], disabled=True)
    async with serving(users_settings(database_url, issuer, admin_password=PASSWORD), issuer) as users:
        assert await list_names(users) == ["boss"]


async def test_two_replicas_that_start_at_once_create_one(database_url: str, issuer: Issuer) -> None:
    settings = users_settings(database_url, issuer, admin_password=PASSWORD)

    async def start() -> list[str]:
        async with serving(settings, issuer) as users:
            return await list_names(users)

    assert list(await asyncio.gather(start(), start())) == [["admin"]] * 2


async def test_without_a_password_the_start_says_what_to_set(database_url: str, issuer: Issuer) -> None:
    with capture_logs() as logs:
        async with serving(users_settings(database_url, issuer), issuer) as users:
            assert await list_names(users) == []
    (warning,) = [entry for entry in logs if entry["event"] == "no_administrator"]
    assert warning["log_level"] == "warning"
    assert "USERS_ADMIN_PASSWORD" in warning["hint"]


@pytest.mark.parametrize("setting", ["username", "email"])
async def test_a_taken_name_is_reported_and_its_account_left_alone(
    database_url: str, issuer: Issuer, setting: str
) -> None:
    taken = {"username": {"admin_username": "ada"}, "email": {"admin_email": "ada@example.com"}}[setting]
    async with serving(users_settings(database_url, issuer), issuer) as users:
        account = await users.create("ada")
    with capture_logs() as logs:
        async with serving(users_settings(database_url, issuer, admin_password=PASSWORD, **taken), issuer) as users:
            assert (await users.http.get("/users", headers=users.admin)).json() == [account]
    (warning,) = [entry for entry in logs if entry["event"] == "no_administrator"]
    assert warning["reason"] == f"{setting} is taken"
