"""Every query of rules, dashboards and scalers names metrics, labels and values that docs/metrics.yaml has."""

import pytest

from tests.metric_registry import MetricRegistry, read_metric_registry
from tests.promql import Vocabulary, recorded
from tests.queries import Query, all_queries, recording_rules, scaler_queries


def vocabulary_of(registry: MetricRegistry) -> Vocabulary:
    """Return what queries may name: what is exposed, and what the rules record of it."""
    exposed = Vocabulary(registry.series, registry.bounded)
    return Vocabulary({**exposed.series, **recorded(recording_rules(), exposed)}, registry.bounded)


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return vocabulary_of(read_metric_registry())


def without_variables(query: Query) -> str:
    """Return the query with a label that is asked for in a place where it is looked up."""
    return query.text if query.label is None else f"sum by ({query.label}) ({query.text})"


def test_queries_name_what_there_is(vocabulary: Vocabulary) -> None:
    wrong = {query.place: errors for query in all_queries() if (errors := vocabulary.check(without_variables(query)))}
    assert wrong == {}


def test_scalers_are_among_the_queries() -> None:
    assert len(list(scaler_queries())) == 3


@pytest.mark.parametrize("name", ["inference_requests_in_flight", "inference_device_busy_seconds_total"])
def test_a_metric_that_is_renamed_breaks_who_asks_for_it(name: str) -> None:
    registry = read_metric_registry()
    renamed = [metric for metric in registry.metrics if metric.name != name]
    vocabulary = vocabulary_of(registry.model_copy(update={"metrics": renamed}))
    errors = [error for query in all_queries() for error in vocabulary.check(query.text)]
    assert f"{name}: unknown metric" in errors
