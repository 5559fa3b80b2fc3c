"""Signing keys: made once, kept, and all of them published."""

import asyncio

import pytest
from auth_service.signing_keys import load_key_ring
from auth_service.tables import SigningKeyRow
from servicekit.database import open_database
from sqlalchemy import func, select


@pytest.fixture
async def url(database_url: str) -> str:
    """A database with the tables and nothing in them."""
    async with open_database(database_url) as database:
        await database.migrate("auth_service")
    return database_url


async def test_replicas_that_start_together_make_one_key(url: str) -> None:
    async with open_database(url) as first, open_database(url) as second:
        rings = await asyncio.gather(*(load_key_ring(database, "RS256") for database in [first, second] * 3))
        assert len({ring.current.key_id for ring in rings}) == 1
        async with first.sessions.begin() as transaction:
            assert await transaction.scalar(select(func.count()).select_from(SigningKeyRow)) == 1


async def test_a_key_is_kept(url: str) -> None:
    async with open_database(url) as database:
        first = await load_key_ring(database, "ES256")
    async with open_database(url) as database:
        assert (await load_key_ring(database, "ES256")).current.key_id == first.current.key_id


async def test_after_a_change_of_algorithm_the_old_key_still_verifies(url: str) -> None:
    async with open_database(url) as database:
        old = await load_key_ring(database, "RS256")
        new = await load_key_ring(database, "ES256")
        back = await load_key_ring(database, "RS256")
    assert (old.current.algorithm, new.current.algorithm) == ("RS256", "ES256")
    assert back.current.key_id == old.current.key_id
    assert [key["kid"] for key in new.public_documents] == [old.current.key_id, new.current.key_id]
    assert await new.get(old.current.key_id)
    assert await new.get("stranger") is None


async def test_what_is_published_has_nothing_private(url: str) -> None:
    async with open_database(url) as database:
        ring = await load_key_ring(database, "RS256")
    assert not {"d", "p", "q", "dp", "dq", "qi"} & ring.public_documents[0].keys()
