"""The check of queries finds what is misspelt, and nothing else."""

import pytest

from tests.promql import Rule, Vocabulary, recorded

SERIES = {
    "http_seconds_bucket": frozenset({"job", "route", "status", "le"}),
    "http_seconds_count": frozenset({"job", "route", "status"}),
    "queue_size": frozenset({"job", "pod"}),
    "queue_capacity": frozenset({"job", "pod"}),
    "build_info": frozenset({"job", "version"}),
    "up": frozenset({"job", "pod"}),
}
VALUES = {"status": ["ok", "failed"], "le": ["0.5", "1.0", "+Inf"]}


def vocabulary() -> Vocabulary:
    return Vocabulary(SERIES, lambda _name, label: VALUES.get(label))


@pytest.mark.parametrize(
    "query",
    [
        'sum by (job) (rate(http_seconds_count{status="ok", route=~"/a|/b"}[5m]))',
        'histogram_quantile(0.99, sum by (le, job) (rate(http_seconds_bucket{le!="+Inf"}[5m])))',
        "queue_size / on (job, pod) queue_capacity > 0.5",
        "queue_size * on (job) group_left (version) build_info",
        "sum by (job, version) (queue_size * on (job) group_left (version) build_info)",
        "max by (job) (time() - queue_size) > 3 * 60",
        "sum without (pod) (queue_size) and on (job) up == 1",
        'label_replace(up, "zone", "$1", "pod", "(.*)-.*")',
        'sum by (zone) (label_replace(up, "zone", "$1", "pod", "(.*)-.*"))',
        'absent(up{job="auth"}) or vector(0)',
        'topk(3, max_over_time(queue_size{job=~"$job"}[1h:5m]))',
        'sum by (v) (count_values("v", queue_size))',
        '{__name__="up"}',
    ],
)
def test_what_is_known_passes(query: str) -> None:
    assert vocabulary().check(query) == []


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("rate(http_seconds_total[5m])", "http_seconds_total: unknown metric"),
        ("http_seconds", "http_seconds: unknown metric"),
        ('queue_size{status="ok"}', "queue_size: no label 'status'"),
        ("sum by (route) (queue_size)", "sum: no label 'route'"),
        ("sum without (route) (queue_size)", "sum: no label 'route'"),
        ("sum by (pod) (sum by (job) (queue_size))", "sum: no label 'pod'"),
        ("queue_size / on (route) queue_capacity", "/: no label 'route'"),
        ("queue_size * on (job) group_left (colour) build_info", "*: no label 'colour'"),
        ("sum by (pod) (queue_size / on (job) queue_capacity)", "sum: no label 'pod'"),
        ("histogram_quantile(0.9, sum by (job) (http_seconds_bucket))", "histogram_quantile: no label 'le'"),
        ('http_seconds_count{status="fine"}', "http_seconds_count: status is never 'fine'"),
        ('http_seconds_count{status=~"ok|fine"}', "http_seconds_count: status is never 'fine'"),
        ('http_seconds_bucket{le="1"}', "http_seconds_bucket: le is never '1'"),
        ("sum(", "unclosed left parenthesis"),
    ],
)
def test_what_is_not_known_is_told(query: str, error: str) -> None:
    assert error in vocabulary().check(query)


def test_what_rules_record_has_the_labels_of_their_queries_and_their_own() -> None:
    rules = [
        Rule("job:queue:ratio", "job:queue:size / on (job) job:queue:capacity", frozenset({"team"})),
        Rule("job:queue:size", "sum by (job) (queue_size)", frozenset()),
        Rule("job:queue:capacity", "sum by (job) (queue_capacity)", frozenset()),
        Rule("job:lost", "sum by (job) (unknown)", frozenset()),
    ]
    found = recorded(rules, vocabulary())
    assert found["job:queue:ratio"] == {"job", "team"}
    assert found.keys() == {"job:queue:ratio", "job:queue:size", "job:queue:capacity"}
