"""Every PromQL expression that Pinhole ships: of its rules, its dashboards and its scalers."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tests.charts.flavours import Flavour, template
from tests.promql import Rule

FILES = Path(__file__).parents[1] / "charts/pinhole/files"

_LABEL_VALUES = re.compile(r"label_values\((?:(?P<query>.+), *)?(?P<label>\w+)\)", re.DOTALL)
_DURATION = re.compile(r"\$\{?__(?:rate_interval|interval|range)\b\}?")


class Query(NamedTuple):
    """One expression, and where it stands. `label` is the one whose values a variable of a dashboard takes."""

    place: str
    text: str
    label: str | None = None


def rules() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each rule with the name of its file."""
    for path in sorted(FILES.glob("rules/*.yaml")):
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                yield path.name, rule


def rule_queries() -> Iterator[Query]:
    """Yield what alerts and recording rules ask for."""
    for file, rule in rules():
        yield Query(f"{file} {rule.get('alert') or rule['record']}", rule["expr"])


def recording_rules() -> list[Rule]:
    """Return the rules that record a series."""
    return [
        Rule(rule["record"], rule["expr"], frozenset(rule.get("labels", {}))) for _, rule in rules() if "record" in rule
    ]


def dashboard_queries() -> Iterator[Query]:
    """Yield what panels, variables and annotations of dashboards ask for, with spans of time in place of `$__…`."""
    for path in sorted(FILES.glob("dashboards/*.json")):
        for query in _queries_within(json.loads(path.read_text()), path.name):
            yield query._replace(text=_DURATION.sub("5m", query.text))


def _queries_within(node: Any, place: str) -> Iterator[Query]:
    if isinstance(node, list):
        for item in node:
            yield from _queries_within(item, place)
    if not isinstance(node, dict):
        return
    name = node.get("title") or node.get("name")
    place = f"{place} {name}" if isinstance(name, str) else place
    if isinstance(node.get("expr"), str):
        yield Query(place, node["expr"])
    query = node.get("query")
    if node.get("type") == "query" and (text := query.get("query") if isinstance(query, dict) else query):
        found = _LABEL_VALUES.fullmatch(text)
        assert found, f"{place}: expected label_values(query, label), not {text}"
        yield Query(place, found["query"] or "up", found["label"])
    for value in node.values():
        yield from _queries_within(value, place)


def scaler_queries() -> Iterator[Query]:
    """Yield what KEDA asks for, as the charts render it for the release `ph` in the namespace `ns`."""
    done = template(Flavour(settings=("inference.keda.enabled=true", "inference.keda.prometheusAddress=http://p:9090")))
    assert done.returncode == 0, done.stderr
    for document in yaml.safe_load_all(done.stdout):
        if document and document["kind"] == "ScaledObject":
            for trigger in document["spec"]["triggers"]:
                yield Query(f"scaler {document['metadata']['name']}", trigger["metadata"]["query"])


def all_queries() -> list[Query]:
    """Return every expression."""
    return [*rule_queries(), *dashboard_queries(), *scaler_queries()]
