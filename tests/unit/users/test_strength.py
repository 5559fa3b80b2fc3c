"""What is a good password."""

import pytest
from users_service.strength import find_weakness
from zxcvbn.matching import RANKED_DICTIONARIES

from tests.unit.users.driver import PASSWORD, Users, assert_problem

ABOUT = ("lovelace", "ada.byron@example.com", "Augusta Ada King")


@pytest.mark.parametrize("password", ["password", "Password", "12345678", "qwertyuiop", "iloveyou", "passw0rd"])
def test_the_most_used_passwords_are_refused(password: str) -> None:
    assert find_weakness(password) in {
        "is one of the most used passwords",
        "is too easy to guess. This is similar to a commonly used password.",
    }


def test_the_list_of_them_is_longer_than_the_standard_asks_for() -> None:
    """OWASP ASVS 5.0, 6.2.4: the top 3000 of those that match the policy."""
    assert sum(len(password) >= 8 for password in RANKED_DICTIONARIES["passwords"]) > 3000


@pytest.mark.parametrize("password", ["aaaaaaaaaaaaaaaa", "abcabcabcabc", "2001-05-07", "asdfghjkl;", "password1" * 20])
def test_what_has_a_pattern_is_refused(password: str) -> None:
    weakness = find_weakness(password)
    assert weakness is not None
    assert password not in weakness


@pytest.mark.parametrize("password", ["lovelace1", "Ada.Byron", "AugustaKing", "ada.byron@example.com", "pinhole123"])
def test_what_is_known_of_a_user_is_no_password(password: str) -> None:
    assert find_weakness(password, ABOUT) is not None


@pytest.mark.parametrize(
    "password", [PASSWORD, "xQ3#kd9!mZ", "пароль на русском языке", "é" * 3 + "zvwq kl7", "🐙🦑 squid lamp 9"]
)
def test_what_is_hard_to_guess_is_taken_whatever_it_is_made_of(password: str) -> None:
    assert find_weakness(password, ABOUT) is None


def test_how_hard_is_a_setting() -> None:
    assert find_weakness("johndoe2024", min_score=2) is None
    assert find_weakness("12345678", min_score=0) is None


async def test_a_weak_password_is_422_wherever_one_is_set_and_says_why(users: Users) -> None:
    """Each is hard to guess for who does not know the name."""
    assert find_weakness("zvwqklxhtm") is None
    account = await users.create("zvwqklxhtm", password=PASSWORD)
    body = {"username": "kxqvjzwpty", "email": "byron@example.com", "password": "kxqvjzwpty"}
    change = {"current_password": PASSWORD, "new_password": "zvwqklxhtm"}
    path = f"/users/{account['id']}/password"
    for response, field in (
        (await users.http.post("/users", json=body, headers=users.admin), "body.password"),
        (await users.http.post("/users/me/password", json=change, headers=users.own(account)), "body.new_password"),
        (await users.http.post(path, json={"new_password": "zvwqklxhtm"}, headers=users.admin), "body.new_password"),
    ):
        assert_problem(response, 422, field)
        assert response.json()["type"] == "urn:pinhole:problem:weak-password"
        assert "easy to guess" in response.json()["errors"][0]["detail"]
    assert await users.sign_in("zvwqklxhtm") is not None
