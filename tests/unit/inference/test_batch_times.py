"""What batches are expected to take."""

import gc

import pytest
from inference_service.batch_times import BatchTimes, MovingAverage
from torch import nn


def test_nothing_is_expected_before_something_was_measured() -> None:
    assert BatchTimes(8).expected_seconds(nn.Identity(), 20) == 0


def test_full_batches_and_the_rest_add_up_and_sizes_between_are_between() -> None:
    times, network = BatchTimes(8), nn.Identity()
    times.add(network, 2, 0.2)
    times.add(network, 8, 0.5)
    assert times.expected_seconds(network, 1) == pytest.approx(0.2)
    assert times.expected_seconds(network, 5) == pytest.approx(0.35)
    assert times.expected_seconds(network, 18) == pytest.approx(1.2)
    assert times.expected_seconds(nn.Identity(), 18) == 0


def test_a_larger_batch_than_any_seen_is_expected_to_take_its_share() -> None:
    times, network = BatchTimes(8), nn.Identity()
    times.add(network, 1, 0.1)
    assert times.expected_seconds(network, 8) == pytest.approx(0.8)


def test_the_average_rises_faster_than_it_falls() -> None:
    average = MovingAverage(1.0)
    average.add(2.0)
    assert average.value == pytest.approx(1.5)
    average.add(0.5)
    assert average.value == pytest.approx(1.4)


def test_the_times_of_a_network_go_with_it() -> None:
    times, network = BatchTimes(8), nn.Identity()
    times.add(network, 1, 0.1)
    del network
    gc.collect()
    assert not times._seconds
