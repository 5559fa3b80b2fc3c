"""Rules and dashboards: each file becomes an object."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from tests.charts.flavours import CHARTS, Flavour, template

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


def test_each_file_becomes_an_object_as_it_is(charts: Path) -> None:
    settings = ("prometheusRule.enabled=true", "prometheusRule.labels.release=kps", "dashboards.enabled=true")
    done = template(Flavour(settings=settings), charts=charts)
    assert done.returncode == 0, done.stderr
    found = {each["metadata"]["name"]: each for each in yaml.safe_load_all(done.stdout) if each}
    rule, dashboard = found["ph-pinhole-some"], found["ph-pinhole-dashboard-some"]
    assert rule["kind"] == "PrometheusRule"
    assert rule["spec"] == RULES
    assert rule["metadata"]["labels"]["release"] == "kps"
    assert json.loads(dashboard["data"]["some.json"]) == {"title": "{{ some }}"}
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"


def test_they_are_left_out_where_nobody_wants_them(charts: Path) -> None:
    done = template(Flavour(), charts=charts)
    assert done.returncode == 0, done.stderr
    assert "some" not in {each["metadata"]["name"] for each in yaml.safe_load_all(done.stdout) if each}
