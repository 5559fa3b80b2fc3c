"""What a model has done, counted by requests and by batches."""

import gc

import pytest
from inference_service.statistics import Duration, ModelStatistics, StatisticsBook
from inference_service.timings import StageTimings
from torch import nn


def test_a_request_that_was_computed_counts_in_each_of_its_parts() -> None:
    statistics, timings = ModelStatistics(), StageTimings()
    with statistics.request(timings):
        for stage in ("decode", "preprocess", "queue", "compute", "postprocess"):
            timings.add(stage, 0.25)
    assert (statistics.success.count, statistics.fail.count) == (1, 0)
    assert statistics.compute_input == Duration(1, 500_000_000)
    assert statistics.compute_infer == statistics.queue == statistics.compute_output == Duration(1, 250_000_000)
    assert statistics.last_inference_ms > 1_700_000_000_000


def test_an_answer_from_the_cache_counts_as_no_computation() -> None:
    statistics = ModelStatistics()
    with statistics.request(StageTimings()):
        pass
    assert (statistics.success.count, statistics.compute_infer.count) == (1, 0)


def test_a_request_that_fails_counts_as_failed() -> None:
    statistics = ModelStatistics()
    with pytest.raises(ValueError), statistics.request(StageTimings()):
        raise ValueError
    assert (statistics.success.count, statistics.fail.count) == (0, 1)


def test_batches_are_counted_by_their_size() -> None:
    statistics = ModelStatistics()
    for rows in (4, 1, 4):
        statistics.batch(rows, 0.5)
    assert statistics.batches == {4: Duration(2, 1_000_000_000), 1: Duration(1, 500_000_000)}
    assert (statistics.inference_count, statistics.execution_count) == (9, 3)


def test_what_a_network_has_done_goes_with_it() -> None:
    book, network = StatisticsBook(), nn.Identity()
    statistics = book.of(network)
    assert book.of(network) is statistics
    assert book.of(nn.Identity()) is not statistics
    del network, statistics
    gc.collect()
    assert len(book) == 0
