"""Which key signs and which ones verify, by nothing but the time."""

from datetime import UTC, datetime, timedelta

import pytest
from auth_service.signing_keys import KeyRing, KeyState, KeyTimes, RingKey, states
from servicekit.database import utc_now
from servicekit.tokens import SigningKey

START = datetime(2026, 1, 1, tzinfo=UTC)
OVERLAP = timedelta(minutes=16)


def key(name: str, active_after_minutes: int) -> KeyTimes:
    return KeyTimes(name, "ES256", created_at=START, active_from=START + timedelta(minutes=active_after_minutes))


@pytest.mark.parametrize(
    ("minutes", "expected"),
    [
        (0, {"a": "active", "b": "published", "c": "published"}),
        (10, {"a": "retiring", "b": "active", "c": "published"}),
        (25, {"a": "retiring", "b": "active", "c": "published"}),
        (26, {"a": "over", "b": "active", "c": "published"}),
        (30, {"a": "over", "b": "retiring", "c": "active"}),
        (46, {"a": "over", "b": "over", "c": "active"}),
        (10_000, {"a": "over", "b": "over", "c": "active"}),
    ],
)
def test_a_key_is_published_then_active_then_retiring_then_over(minutes: int, expected: dict[str, KeyState]) -> None:
    keys = [key("c", 30), key("a", 0), key("b", 10)]
    assert states(keys, START + timedelta(minutes=minutes), overlap=OVERLAP) == expected


def test_of_two_keys_with_one_time_each_replica_takes_the_same() -> None:
    now = START + timedelta(minutes=1)
    both = [key("a", 0), key("b", 0)]
    assert states(both, now, overlap=OVERLAP) == states(both[::-1], now, overlap=OVERLAP)
    assert sorted(states(both, now, overlap=OVERLAP).values()) == ["active", "retiring"]


def ring_key(active_in: timedelta) -> RingKey:
    signing_key, now = SigningKey.generate("ES256"), utc_now()
    times = KeyTimes(signing_key.key_id, "ES256", created_at=now, active_from=now + active_in)
    return RingKey(times, signing_key.public_document, signing_key)


async def test_a_ring_publishes_what_may_verify_and_nothing_private() -> None:
    over, retiring, active, published = (ring_key(timedelta(minutes=minutes)) for minutes in (-100, -50, -1, 10))
    ring = KeyRing([published, over, active, retiring], overlap=OVERLAP)
    assert ring.current is active.signing_key
    assert ring.key_ids == [key.times.id for key in (retiring, active, published)]
    assert [document["kid"] for document in ring.public_documents] == ring.key_ids
    assert not {"d", "p", "q", "dp", "dq", "qi"} & {name for key in ring.public_documents for name in key}
    assert await ring.get(retiring.times.id)
    assert await ring.get("stranger") is None
    before = await ring.get(retiring.times.id)
    ring.replace([retiring, active], overlap=OVERLAP)
    assert await ring.get(retiring.times.id) is before
    assert await ring.get(published.times.id) is None


def test_a_first_key_of_a_replica_whose_clock_is_ahead_signs_all_the_same() -> None:
    first = ring_key(timedelta(seconds=2))
    assert KeyRing([first], overlap=OVERLAP).current is first.signing_key
