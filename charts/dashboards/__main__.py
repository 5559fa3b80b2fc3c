"""Writes the dashboards of the chart: `make dashboards`."""

import json
from pathlib import Path

from charts.dashboards import grafana
from charts.dashboards.gpu import GPU
from charts.dashboards.identity import IDENTITY
from charts.dashboards.inference import INFERENCE
from charts.dashboards.overview import OVERVIEW
from charts.dashboards.service import SERVICE_DASHBOARD

FOLDER = Path(__file__).parents[1] / "pinhole/files/dashboards"
DASHBOARDS = {
    "overview": OVERVIEW,
    "service": SERVICE_DASHBOARD,
    "identity": IDENTITY,
    "inference": INFERENCE,
    "gpu": GPU,
}


def render(name: str) -> str:
    """Return the file of one dashboard."""
    return json.dumps(grafana.render(DASHBOARDS[name]), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name in DASHBOARDS:
        (FOLDER / f"{name}.json").write_text(render(name), encoding="utf-8")
