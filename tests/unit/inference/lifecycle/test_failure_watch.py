"""When a canary or a shadow has failed too often."""

import contextlib

import pytest
from inference_service.errors import DeadlineExceeded, InferenceFailed
from inference_service.lifecycle.failure_watch import FailureWatch
from inference_service.lifecycle.registry import ServedModel
from inference_service.metrics import InferenceMetrics
from prometheus_client import CollectorRegistry
from servicekit.problem import Problem

from tests.unit.inference.networks import tiny_model, tiny_source

OK, FAILED, LATE = None, InferenceFailed("it failed"), DeadlineExceeded("too late")


def served(weight: float | None = 10, shadow: float | None = None) -> ServedModel:
    found = ServedModel(tiny_source(weight=weight, shadow=shadow))
    found.model = tiny_model()
    return found


def judge(watch: FailureWatch, version: ServedModel, *outcomes: Problem | None) -> bool:
    """Return whether it is stopped after these."""
    model = version.require()
    for outcome in outcomes:
        with contextlib.suppress(Problem), watch.judging(version, model):
            if outcome is not None:
                raise outcome
    return version.stopped


@pytest.fixture
def watch() -> FailureWatch:
    return FailureWatch(InferenceMetrics(CollectorRegistry()), window=4, share=0.5)


@pytest.mark.parametrize(("weight", "shadow"), [(10, None), (None, 10)])
def test_it_is_stopped_when_its_share_of_the_window_has_failed(
    watch: FailureWatch, weight: float | None, shadow: float | None
) -> None:
    version = served(weight, shadow)
    assert not judge(watch, version, FAILED, OK, OK)
    assert judge(watch, version, FAILED)
    assert version.reason == "stopped: 2 of its last 4 computations failed"
    assert (version.weight or 0, version.shadow or 0) == (0, 0)


def test_it_is_not_stopped_before_the_window_is_full(watch: FailureWatch) -> None:
    assert not judge(watch, served(), FAILED, FAILED, FAILED)


def test_what_was_before_the_window_is_forgotten(watch: FailureWatch) -> None:
    assert not judge(watch, served(), FAILED, OK, OK, OK, FAILED, OK, OK, OK, FAILED)


def test_what_comes_too_late_counts_neither_way(watch: FailureWatch) -> None:
    version = served()
    assert not judge(watch, version, FAILED, FAILED, FAILED, LATE, LATE)
    assert judge(watch, version, OK)


def test_a_stable_version_is_never_stopped(watch: FailureWatch) -> None:
    assert not judge(watch, served(weight=None), *[FAILED] * 10)


def test_a_version_that_is_loaded_anew_begins_anew(watch: FailureWatch) -> None:
    version = served()
    before = version.require()
    assert not judge(watch, version, FAILED, FAILED, FAILED)
    version.model = tiny_model()
    with contextlib.suppress(InferenceFailed), watch.judging(version, before):  # it began before the change
        raise FAILED
    assert not judge(watch, version, FAILED, OK)
