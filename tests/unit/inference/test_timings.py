"""The times of the stages."""

import pytest
from inference_service.timings import StageTimings


def test_stages_come_in_the_order_of_a_request_and_waits_add_up() -> None:
    timings = StageTimings()
    timings.add("queue", 0.25)
    timings.add("decode", 0.5)
    timings.add("queue", 0.25)
    assert list(timings.seconds().items()) == [("decode", 0.5), ("queue", 0.5)]


def test_a_stage_that_fails_is_measured() -> None:
    timings = StageTimings()
    with pytest.raises(ValueError), timings.measure("decode"):
        raise ValueError
    assert timings.seconds().keys() == {"decode"}
