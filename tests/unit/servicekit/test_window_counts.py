"""Counts of requests in one process: what a window lets pass, and what many callers cost."""

import pytest
from servicekit import window_counts
from servicekit.window_counts import WindowCounts

from tests.unit.clock import Clock

SECONDS = 60


@pytest.fixture
def clock() -> Clock:
    return Clock(10.0 * SECONDS)


def allowed(counts: WindowCounts, caller: str = "ada", times: int = 20) -> int:
    """Return how many of some requests may go on."""
    return [counts.hit(caller) for _ in range(times)].count(0)


def test_requests_of_the_window_before_count_for_what_is_covered_of_it(clock: Clock) -> None:
    counts = WindowCounts(10, SECONDS, clock=clock)
    assert allowed(counts) == 10
    for later, more in ((SECONDS - 1, 0), (1 + SECONDS / 2, 5), (SECONDS, 8), (SECONDS * 2, 10)):
        clock.now += later
        assert allowed(counts) == more


def test_the_window_before_counts_whoever_else_has_come_since(clock: Clock) -> None:
    counts = WindowCounts(1, SECONDS, clock=clock)
    assert counts.hit("ada") == 0
    clock.now += SECONDS
    assert counts.hit("bob") == 0
    assert counts.hit("ada") > 0


@pytest.mark.parametrize("part", [0.0, 0.25, 0.9])
@pytest.mark.parametrize("before", [0, 4, 10])
def test_who_waits_as_long_as_told_may_go_on_and_not_a_second_earlier(clock: Clock, part: float, before: int) -> None:
    counts = WindowCounts(10, SECONDS, clock=clock)
    allowed(counts, times=before)
    clock.now += (1 + part) * SECONDS
    allowed(counts)
    wait_seconds = counts.peek("ada")
    assert counts.hit("ada") == wait_seconds >= 1
    start = clock.now
    clock.now = start + wait_seconds - 1.01
    assert clock.now < start or counts.peek("ada") > 0
    clock.now = start + wait_seconds + 0.01
    assert counts.peek("ada") == 0
    assert counts.hit("ada") == 0


def test_a_look_counts_and_remembers_nothing(clock: Clock) -> None:
    counts = WindowCounts(1, SECONDS, clock=clock)
    assert [counts.peek("ada") for _ in range(3)] == [0, 0, 0]
    assert len(counts) == 0
    assert allowed(counts) == 1


def test_who_does_not_count_any_more_is_forgotten(clock: Clock) -> None:
    counts = WindowCounts(1, SECONDS, clock=clock)
    for caller in range(100):
        counts.hit(f"{caller}")
    clock.now += 2 * SECONDS
    allowed(counts, times=100)
    assert len(counts) == 1


def test_no_more_callers_are_remembered_than_there_is_room_for(clock: Clock) -> None:
    """And who goes on to ask is still refused, however many others come."""
    counts = WindowCounts(1, SECONDS, clock=clock)
    assert counts.hit("ada") == 0
    for caller in range(window_counts.MAX_CALLERS + 10):
        counts.hit(f"{caller}")
        if caller % 1000 == 0:
            assert counts.hit("ada") > 0
    assert len(counts) == window_counts.MAX_CALLERS
    assert counts.peek("0") == 0
