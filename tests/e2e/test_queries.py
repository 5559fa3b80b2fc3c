"""Every query of rules, dashboards and scalers, executed by a real Prometheus that scrapes the running services."""

import asyncio
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import promql_parser as promql
import pytest
import yaml

from tests.e2e.conftest import Pinhole
from tests.e2e.traffic import make_traffic, measured_product, until_searched
from tests.metric_registry import read_metric_registry
from tests.prometheus import Prometheus, Target, find_program, serve_prometheus
from tests.queries import FILES, Query, all_queries, dashboard_queries, recording_rules, scaler_queries

pytestmark = pytest.mark.timeout(400)  # the first test starts a product and a Prometheus

RARE = {"inference_rollout_stopped", "ALERTS"}
"""Series that there are only when something has failed."""


def labels_of(service: str) -> dict[str, str]:
    """Return the labels that a ServiceMonitor gives the series of a service in the release `ph`."""
    return {
        "namespace": "ns",
        "release": "ph",
        "job": service,
        "service": f"ph-{service}",
        "pod": f"ph-{service}-0",
        "container": service,
        "endpoint": "http",
    }


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pinhole]:
    with measured_product(tmp_path_factory.mktemp("measured")) as running:
        yield running


@pytest.fixture(scope="module")
def prometheus(measured: Pinhole, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that has seen the product before and after it did some of everything."""
    targets = [
        Target(measured.service_url(service).removeprefix("http://"), labels_of(service))
        for service in ("auth", "users", "inference")
    ]
    folder = tmp_path_factory.mktemp("prometheus")
    with serve_prometheus(folder, targets, rules=list(impatient_rules(folder))) as running:
        running.wait_for("count(count_over_time(up[1h]) > 1) == 3")
        make_traffic(measured)
        asyncio.run(until_searched(measured))
        made_at = time.time()
        running.wait_for(f"count(timestamp(up) > {made_at} + 3) == 3")
        # Some rules build on what others record: the last of them need some rounds.
        for rule in recording_rules():
            running.wait_for(f"timestamp({rule.name}) > {made_at}")
        yield running


def impatient_rules(folder: Path) -> Iterator[Path]:
    """Write the rules anew, to be evaluated as often as all others, and yield their files."""
    for path in sorted(FILES.glob("rules/*.yaml")):
        document = yaml.safe_load(path.read_text())
        for group in document["groups"]:
            group.pop("interval", None)
        copy = folder / path.name
        copy.write_text(yaml.safe_dump(document))
        yield copy


def as_asked(query: Query) -> str:
    """Return a query as it is sent where every variable of a dashboard is set to all."""
    return re.sub(r"\$\{?\w+(:\w+)?\}?", ".*", query.text)


def selectors(text: str) -> list[promql.VectorSelector]:
    found: list[promql.VectorSelector] = []

    def note(node: promql.Expr) -> None:
        if isinstance(node, promql.VectorSelector):
            found.append(node)
        elif isinstance(node, promql.MatrixSelector):
            found.append(node.vector_selector)

    promql.walk(promql.parse(text), pre_visit=note)
    return found


def has_series(text: str) -> bool:
    """Tell whether there must be something to see: not where a query is about others, GPUs or failures alone."""
    registry = read_metric_registry()
    absent = RARE | {metric.name for metric in registry.metrics if metric.when == "cuda"}
    absent |= {foreign.name for foreign in registry.foreign} - {"up"}
    return not any(selector.name in absent or "cuda" in str(selector) for selector in selectors(text))


def test_promtool_parses_every_query(tmp_path: Path) -> None:
    queries = {as_asked(query) for query in all_queries()}
    recorded = [{"record": f"query:{number}", "expr": text} for number, text in enumerate(sorted(queries))]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": recorded}]}))
    done = subprocess.run(
        [find_program("promtool"), "check", "rules", file], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_query_is_executed(prometheus: Prometheus) -> None:
    failed = []
    for query in all_queries():
        try:
            prometheus.query(as_asked(query))
        except ValueError as error:
            failed.append(f"{query.place}: {error}")
    assert failed == []


def test_dashboards_and_scalers_have_something_to_show(prometheus: Prometheus) -> None:
    asked = [(query.place, as_asked(query)) for query in (*dashboard_queries(), *scaler_queries())]
    assert [(place, text) for place, text in asked if has_series(text) and not prometheus.query(text)] == []


def test_recording_rules_record_each_service(prometheus: Prometheus) -> None:
    names = {rule.name for rule in recording_rules() if rule.name.startswith("service:pinhole_")}
    assert names
    for name in names:
        assert {series["metric"]["job"] for series in prometheus.query(name)} == {"auth", "users", "inference"}, name


def test_an_exemplar_leads_from_a_duration_to_its_trace(prometheus: Prometheus) -> None:
    for name in ("http_server_request_duration", "inference_request_duration", "inference_stage_duration"):
        found = prometheus.exemplars(f'{name}_seconds_bucket{{job="inference"}}')
        trace_ids = [exemplar["labels"]["trace_id"] for series in found for exemplar in series["exemplars"]]
        assert trace_ids, name
        assert all(re.fullmatch("[0-9a-f]{32}", trace_id) for trace_id in trace_ids)
