"""Rules and dashboards: each file becomes an object."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.charts.flavours import CHARTS, ROOT, Flavour, Object, named, template

RULES = {
    "groups": [{"name": "g", "rules": [{"alert": "Down", "expr": "up == 0", "annotations": {"a": "{{ $labels.x }}"}}]}]
}


@pytest.fixture
def charts(tmp_path: Path) -> Path:
    """A copy of the charts with one file of each sort more."""
    copy = tmp_path / "charts"
    shutil.copytree(CHARTS, copy, symlinks=True)
    (copy / "pinhole/files/rules").mkdir(exist_ok=True)
    (copy / "pinhole/files/dashboards").mkdir(exist_ok=True)
    (copy / "pinhole/files/rules/some.yaml").write_text(yaml.safe_dump(RULES))
    (copy / "pinhole/files/dashboards/some.json").write_text(json.dumps({"title": "{{ some }}"}))
    return copy


def test_what_the_documentation_shows_is_chosen_by_one_prometheus_whole() -> None:
    # Rules without the monitors would have nothing to tell, and nobody would learn of it.
    document = (ROOT / "docs/alerts.md").read_text().split("```yaml\n")[1].split("```")[0]
    done = template(Flavour(document=document))
    assert done.returncode == 0, done.stderr
    found = [each for each in yaml.safe_load_all(done.stdout) if each]
    chosen = [each for each in found if each["metadata"]["labels"].get("release") == "kube-prometheus-stack"]
    monitors = [each["metadata"]["name"] for each in chosen if each["kind"] == "ServiceMonitor"]
    assert sorted(monitors) == ["ph-auth", "ph-inference", "ph-users"]
    rules = [each for each in found if each["kind"] == "PrometheusRule"]
    assert rules
    assert all(rule in chosen for rule in rules)


def test_each_file_becomes_an_object_as_it_is(charts: Path) -> None:
    settings = (
        *("prometheusRule.enabled=true", "prometheusRule.labels.release=kps", "dashboards.enabled=true"),
        *("dashboards.labels.tenant=vision", "dashboards.annotations.grafana_folder=Pinhole"),
    )
    done = template(Flavour(settings=settings), charts=charts)
    assert done.returncode == 0, done.stderr
    found = {each["metadata"]["name"]: each for each in yaml.safe_load_all(done.stdout) if each}
    rule, dashboard = found["ph-pinhole-some"], found["ph-pinhole-dashboard-some"]
    assert rule["kind"] == "PrometheusRule"
    assert rule["spec"] == RULES
    assert rule["metadata"]["labels"]["release"] == "kps"
    assert json.loads(dashboard["data"]["some.json"]) == {"title": "{{ some }}"}
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert dashboard["metadata"]["labels"]["tenant"] == "vision"
    assert dashboard["metadata"]["annotations"]["grafana_folder"] == "Pinhole"


def test_they_are_left_out_where_nobody_wants_them(charts: Path) -> None:
    done = template(Flavour(), charts=charts)
    assert done.returncode == 0, done.stderr
    assert "some" not in {each["metadata"]["name"] for each in yaml.safe_load_all(done.stdout) if each}


def alerts(done: "subprocess.CompletedProcess[str]") -> list[Object]:
    assert done.returncode == 0, done.stderr
    return [
        rule
        for each in yaml.safe_load_all(done.stdout)
        if each and each["kind"] == "PrometheusRule"
        for group in each["spec"]["groups"]
        for rule in group["rules"]
        if "alert" in rule
    ]


def test_the_rules_of_the_release_are_those_of_the_files() -> None:
    done = template(Flavour(settings=("prometheusRule.enabled=true",)))
    assert done.returncode == 0, done.stderr
    specs = {
        each["metadata"]["name"]: each["spec"]
        for each in yaml.safe_load_all(done.stdout)
        if each and each["kind"] == "PrometheusRule"
    }
    files = (CHARTS / "pinhole/files/rules").glob("*.yaml")
    assert specs == {f"ph-pinhole-{path.stem}": yaml.safe_load(path.read_text()) for path in files}


def test_an_alert_leads_to_its_runbook_where_people_read_it() -> None:
    base = "prometheusRule.runbookBaseUrl=https://git.example.com/runbooks/"
    found = alerts(template(Flavour(settings=("prometheusRule.enabled=true", base))))
    assert found
    for rule in found:
        assert rule["annotations"]["runbook_url"] == f"https://git.example.com/runbooks/{rule['alert']}.md"
        assert "runbook" not in rule["annotations"]


@pytest.mark.parametrize("service", ["auth", "users", "inference"])
def test_a_monitor_has_the_labels_that_a_prometheus_looks_for(service: str) -> None:
    document = yaml.safe_dump({service: {"serviceMonitor": {"enabled": True, "labels": {"release": "kps"}}}})
    done = template(Flavour(document=document))
    assert done.returncode == 0, done.stderr
    (monitor,) = (each for each in yaml.safe_load_all(done.stdout) if each and each["kind"] == "ServiceMonitor")
    assert monitor["metadata"]["labels"]["release"] == "kps"
    assert monitor["metadata"]["labels"]["app.kubernetes.io/name"] == service


def test_series_are_told_by_their_release() -> None:
    monitor = named("production", "ServiceMonitor", "ph-auth")
    relabelings = monitor["spec"]["endpoints"][0]["relabelings"]
    assert relabelings == [{"targetLabel": "release", "replacement": "ph"}]
    assert monitor["spec"]["jobLabel"] == "app.kubernetes.io/name"
