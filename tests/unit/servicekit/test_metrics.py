"""What all services measure alike."""

import time

from prometheus_client import CollectorRegistry, generate_latest
from servicekit.metrics import Readings, new_registry


def readings(registry: CollectorRegistry) -> Readings:
    return Readings(registry, count="notes_reads", time="notes_read_timestamp_seconds", what="the notes")


def test_both_outcomes_are_there_before_anything_was_read() -> None:
    registry = CollectorRegistry()
    readings(registry)
    for outcome in ("ok", "failed"):
        assert registry.get_sample_value("notes_reads_total", {"outcome": outcome}) == 0
    assert registry.get_sample_value("notes_read_timestamp_seconds") == 0


def test_a_failed_reading_is_counted_and_leaves_the_time_of_the_last_good_one() -> None:
    registry = CollectorRegistry()
    read, started = readings(registry), time.time()
    read.succeeded()
    read_at = registry.get_sample_value("notes_read_timestamp_seconds")
    read.failed()
    assert registry.get_sample_value("notes_reads_total", {"outcome": "ok"}) == 1
    assert registry.get_sample_value("notes_reads_total", {"outcome": "failed"}) == 1
    assert registry.get_sample_value("notes_read_timestamp_seconds") == read_at
    assert read_at is not None
    assert started <= read_at <= time.time()


def test_no_metric_has_a_second_series_that_says_when_it_was_made() -> None:
    registry = new_registry()
    readings(registry)
    assert b"_created" not in generate_latest(registry)
