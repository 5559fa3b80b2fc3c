"""Dashboards: as their generator writes them, tidy, and with queries that Prometheus understands."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from charts.dashboards.__main__ import DASHBOARDS, FOLDER, render
from tests.charts.flavours import CHARTS
from tests.charts.tools import find_tool

Json = dict[str, Any]
every_dashboard = pytest.mark.parametrize("name", DASHBOARDS)

OF_GRAFANA = {"__rate_interval": "5m", "__range": "1h"}
MAX_BYTES = 262_144
"""What `kubectl apply` can keep of an object in its annotation."""


def dashboard(name: str) -> Json:
    found: Json = json.loads((FOLDER / f"{name}.json").read_text())
    return found


def panels(name: str) -> list[Json]:
    return [panel for panel in dashboard(name)["panels"] if panel["type"] != "row"]


def variables(name: str) -> list[Json]:
    return [variable for variable in dashboard(name)["templating"]["list"] if variable["type"] == "query"]


def queries(name: str) -> Iterator[str]:
    """Yield what is asked of Prometheus: by panels, by variables, and for the alerts on the time axis."""
    for panel in panels(name):
        for target in panel["targets"]:
            yield target["expr"]
    for variable in variables(name):
        yield variable["query"]["query"].removeprefix("label_values(").rpartition(",")[0]
    for annotation in dashboard(name)["annotations"]["list"]:
        yield annotation["expr"]


@every_dashboard
def test_a_file_is_what_the_generator_writes(name: str) -> None:
    assert (FOLDER / f"{name}.json").read_text() == render(name), "run `make dashboards`"


def test_there_is_no_other_file() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(DASHBOARDS)


def test_addresses_and_titles_are_their_own() -> None:
    for key in ("uid", "title"):
        assert len({dashboard(name)[key] for name in DASHBOARDS}) == len(DASHBOARDS)


@every_dashboard
def test_a_file_fits_into_an_object_of_kubernetes(name: str) -> None:
    assert len((FOLDER / f"{name}.json").read_bytes()) < MAX_BYTES / 2


@every_dashboard
def test_panels_fill_the_grid_and_lie_on_nothing(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard(name)["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (column, line)
            for column in range(place["x"], place["x"] + place["w"])
            for line in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len(taken) == 24 * (1 + max(line for _, line in taken)), "a row has a hole"


@every_dashboard
def test_panels_have_numbers_and_titles_of_their_own(name: str) -> None:
    every = dashboard(name)["panels"]
    assert len({panel["id"] for panel in every}) == len(every)
    heading, titles = "", []
    for panel in every:
        heading = panel["title"] if panel["type"] == "row" else heading
        titles.append((heading, panel["title"]))
    assert len(set(titles)) == len(titles)


@every_dashboard
def test_a_panel_says_what_it_shows_and_in_which_unit(name: str) -> None:
    for panel in panels(name):
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["targets"]


@every_dashboard
def test_everything_is_asked_of_the_chosen_data_source(name: str) -> None:
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    for panel in panels(name):
        assert panel["datasource"] == chosen
        assert all(target["datasource"] == chosen for target in panel["targets"])
    assert all(variable["datasource"] == chosen for variable in variables(name))
    assert all(annotation["datasource"] == chosen for annotation in dashboard(name)["annotations"]["list"])
    (source,) = (each for each in dashboard(name)["templating"]["list"] if each["type"] == "datasource")
    assert (source["name"], source["query"]) == ("datasource", "prometheus")


@every_dashboard
def test_each_line_has_a_name_of_its_own(name: str) -> None:
    for panel in panels(name):
        if panel["type"] == "table":
            continue
        legends = [target["legendFormat"] for target in panel["targets"]]
        assert len(set(legends)) == len(legends)
        for target in panel["targets"]:
            assert target["legendFormat"] != "__auto", panel["title"]
            shown = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            kept = {
                label for labels in re.findall(r"by \(([^)]*)\)", target["expr"]) for label in re.split(r", *", labels)
            }
            assert shown <= (kept or shown), (panel["title"], shown - kept)


@every_dashboard
def test_rates_follow_the_zoom(name: str) -> None:
    for query in queries(name):
        for window in re.findall(r"(?:rate|increase)\([^[]*\[([^]]*)\]", query):
            assert window == "$__rate_interval", query


@every_dashboard
def test_percentiles_of_requests_lead_to_traces(name: str) -> None:
    for panel in panels(name):
        for target in panel["targets"]:
            is_high = "histogram_quantile(0.99" in target["expr"]
            if is_high and re.search("http_server_request|inference_request_duration", target["expr"]):
                assert target["exemplar"], panel["title"]


@every_dashboard
def test_each_variable_that_is_used_can_be_chosen(name: str) -> None:
    chosen = {variable["name"] for variable in variables(name)}
    used = {variable for query in queries(name) for variable in re.findall(r"\$(\w+)", query)} - set(OF_GRAFANA)
    assert used <= chosen
    assert {"namespace", "release", "service"} <= chosen


@every_dashboard
def test_links_lead_to_dashboards_and_fill_their_variables(name: str) -> None:
    addresses = {dashboard(other)["uid"]: other for other in DASHBOARDS}
    (links,) = dashboard(name)["links"]
    assert links["tags"] == ["pinhole"]
    assert dashboard(name)["tags"] == ["pinhole"]
    for panel in panels(name):
        for link in panel["fieldConfig"]["defaults"].get("links", []):
            target = re.match(r"/d/([\w-]+)\?", link["url"])
            assert target
            filled = set(re.findall(r"var-(\w+)=", link["url"])) - {"datasource"}
            assert filled <= {variable["name"] for variable in variables(addresses[target[1]])}


@every_dashboard
def test_queries_are_valid(name: str, tmp_path: Path) -> None:
    rules = []
    for number, query in enumerate(queries(name)):
        for variable, value in OF_GRAFANA.items():
            query = query.replace(f"${variable}", value)
        rules.append({"record": f"dashboard:query_{number}:asked", "expr": query})
    path = tmp_path / "queries.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboards", "rules": rules}]}))
    command = [find_tool("promtool"), "check", "rules", "--lint=none", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@every_dashboard
def test_what_rules_are_to_record_is_recorded(name: str) -> None:
    recorded = {
        rule["record"]
        for path in (CHARTS / "pinhole/files/rules").glob("*.yaml")
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
        if "record" in rule
    }
    asked = {found for query in queries(name) for found in re.findall(r"\b\w+:\w+:\w+\b", query)}
    assert asked <= recorded
