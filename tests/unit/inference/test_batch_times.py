"""What batches are expected to take."""

import gc
import math
from dataclasses import replace

import pytest
from inference_service.batch_times import OLD_SECONDS, BatchTimes, MovingAverage

from tests.unit.inference.networks import tiny_model


def test_nothing_is_expected_before_something_was_measured() -> None:
    assert BatchTimes(8).expected_seconds(tiny_model(), 20) == 0


def test_full_batches_and_the_rest_add_up_and_sizes_between_are_between() -> None:
    times, model = BatchTimes(8), tiny_model()
    times.add(model, 2, 0.2)
    times.add(model, 8, 0.5)
    assert times.expected_seconds(model, 1) == pytest.approx(0.2)
    assert times.expected_seconds(model, 5) == pytest.approx(0.35)
    assert times.expected_seconds(model, 18) == pytest.approx(1.2)
    assert times.expected_seconds(tiny_model(), 18) == 0


def test_what_the_warm_up_took_is_expected_until_more_is_known() -> None:
    times, model = BatchTimes(8), replace(tiny_model(), batch_seconds={1: 0.1, 8: 0.8})
    assert times.expected_seconds(model, 9) == pytest.approx(0.9)
    assert times.silent_seconds(model) == math.inf
    times.add(model, 1, 0.2)
    assert times.expected_seconds(model, 9) == pytest.approx(0.95)


def test_a_larger_batch_than_any_seen_is_expected_to_take_its_share() -> None:
    times, model = BatchTimes(8), tiny_model()
    times.add(model, 1, 0.1)
    assert times.expected_seconds(model, 8) == pytest.approx(0.8)


def test_a_size_that_was_slow_once_is_expected_to_take_what_smaller_batches_show_at_most() -> None:
    times, model = BatchTimes(8), tiny_model()
    times.add(model, 8, 0.05)
    times.add(model, 8, 4.0)  # by chance: nobody with less time is let in whose batch is of that size
    times.add(model, 1, 0.02)
    assert times.expected_seconds(model, 8) == pytest.approx(0.16)
    times.add(model, 8, 0.3)
    assert times.expected_seconds(model, 8) == pytest.approx(0.23)


def test_what_is_old_gives_way_to_what_is_faster_now() -> None:
    times, model = BatchTimes(8), tiny_model()
    assert times.are_old(model)
    times.add(model, 1, 10.0)
    assert not times.are_old(model)
    times._last_at[model] -= OLD_SECONDS
    assert times.are_old(model)
    times.add(model, 1, 12.0)  # slower: as ever
    assert times.expected_seconds(model, 1) == pytest.approx(11.0)
    times._last_at[model] -= OLD_SECONDS
    times.add(model, 1, 0.1)
    assert times.expected_seconds(model, 1) == pytest.approx(0.1)


def test_it_is_known_when_the_last_batch_of_any_model_ended() -> None:
    times, model, other = BatchTimes(8), tiny_model(), tiny_model()
    assert times.silent_seconds() == math.inf
    times.add(model, 1, 0.1)
    assert times.silent_seconds() < 10
    assert times.silent_seconds(other) == math.inf


def test_the_average_rises_faster_than_it_falls() -> None:
    average = MovingAverage(1.0)
    average.add(2.0)
    assert average.value == pytest.approx(1.5)
    average.add(0.5)
    assert average.value == pytest.approx(1.4)


def test_the_times_of_a_model_go_with_it() -> None:
    times, model = BatchTimes(8), tiny_model()
    times.add(model, 1, 0.1)
    del model
    gc.collect()
    assert not times._seconds
