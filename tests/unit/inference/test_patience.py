"""How long callers wait is learnt from those who leave, and not from one alone."""

import asyncio
import math

import pytest
from inference_service.errors import DeadlineExceeded, Overloaded
from inference_service.patience import Patience

from tests.unit.clock import Clock


def test_nobody_is_taken_for_impatient_before_anybody_has_left() -> None:
    patience = Patience()
    for _ in range(1000):
        patience.stayed(1.5)
    assert patience.seconds == math.inf


def test_callers_who_all_leave_after_two_seconds_are_known_to_wait_a_little_less() -> None:
    patience = Patience()
    for _ in range(20):
        patience.left(2.0)
    assert 1.6 < patience.seconds <= 2.0
    for _ in range(1000):
        patience.stayed(1.5)  # answered before: of how long they would have waited it says nothing
    assert 1.6 < patience.seconds <= 2.0


def test_a_few_who_leave_early_do_not_speak_for_those_who_wait() -> None:
    patience = Patience()
    for _ in range(60):
        patience.stayed(3.0)
    for _ in range(40):
        patience.left(1.0)
    assert patience.seconds == math.inf
    for _ in range(40):
        patience.left(1.0)
    assert 0.8 < patience.seconds <= 1.0


def test_the_share_that_is_left_is_counted_through_all_times() -> None:
    patience = Patience()
    for seconds in (1.0, 2.0, 4.0):
        for _ in range(10):
            patience.left(seconds)
            patience.stayed(seconds)
    # Of 60 ten leave after 1 s, and of 40 ten after 2 s: 5/6 x 3/4 are there still, and after 4 s half of those.
    assert 3.2 < patience.seconds <= 4.0


def test_who_leaves_at_once_and_who_leaves_alone_say_nothing_of_others() -> None:
    patience = Patience()
    for _ in range(1000):
        patience.left(0.4)
    for _ in range(7):
        patience.left(2.0)
    assert patience.seconds == math.inf
    patience.left(2.0)
    assert patience.seconds <= 2.0


def test_what_was_seen_is_forgotten_so_that_longer_waits_are_tried_again() -> None:
    clock = Clock(1000.0)
    patience = Patience(clock)
    for _ in range(64):
        patience.left(2.0)
    clock.now += 60  # a quarter is left of them
    assert patience.seconds <= 2.0
    clock.now += 60  # four
    assert patience.seconds == math.inf


def test_any_time_has_its_place() -> None:
    patience = Patience()
    for seconds in (0.0, 0.05, 1e9):
        patience.left(seconds)
        patience.stayed(seconds)


async def test_who_cancels_has_left_and_who_is_answered_or_told_that_it_is_late_has_stayed() -> None:
    clock = Clock(1000.0)
    patience = Patience(clock)

    def ends(error: BaseException | None) -> None:
        with patience.following():
            clock.now += 1.0
            if error is not None:
                raise error

    for _ in range(100):
        with pytest.raises(Overloaded):
            ends(Overloaded("full"))  # which says nothing
    assert patience.seconds == math.inf
    for _ in range(10):
        ends(None)
        with pytest.raises(DeadlineExceeded):
            ends(DeadlineExceeded("late"))
    assert patience.seconds == math.inf
    for _ in range(30):
        with pytest.raises(asyncio.CancelledError):
            ends(asyncio.CancelledError())
    assert 0.8 < patience.seconds <= 1.0
