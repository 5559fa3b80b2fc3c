"""Writes pages as Grafana reads them: its dashboard JSON model, schema version 39.

That is the form of Grafana 10.3; newer ones bring it up to theirs.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from charts.dashboards.panels import Dashboard, Kind, Link, Panel, Query, Row, Variable

Json = dict[str, Any]

SCHEMA_VERSION = 39
COLUMNS = 24
TAG = "pinhole"
DATA_SOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}


def render(page: Dashboard) -> Json:
    """Return a page in Grafana's form."""
    return {
        "uid": page.uid,
        "title": page.title,
        "description": page.description,
        "tags": [TAG],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,  # one cross hair in all panels
        "refresh": "30s",
        "timezone": "browser",
        "time": {"from": page.since, "to": "now"},
        "links": [_link_to_the_others()],
        "annotations": {"list": [_firing_alerts()]},
        "templating": {"list": [_data_source(), *map(_variable, page.variables)]},
        "panels": list(_lay_out(page.rows)),
    }


def _lay_out(rows: Sequence[Row]) -> Iterator[Json]:
    """Yield headings and panels with their places in the grid, and numbers that are theirs alone."""
    number, top = 0, 0
    for row in rows:
        number += 1
        place = {"x": 0, "y": top, "w": COLUMNS, "h": 1}
        yield {"id": number, "type": "row", "title": row.title, "collapsed": False, "panels": [], "gridPos": place}
        top += 1
        left, height = 0, 0
        for panel in row.panels:
            if left + panel.width > COLUMNS:
                left, top, height = 0, top + height, 0
            number += 1
            place = {"x": left, "y": top, "w": panel.width, "h": panel.height}
            yield {"id": number, "gridPos": place, **_panel(panel)}
            left, height = left + panel.width, max(height, panel.height)
        top += height


def _panel(panel: Panel) -> Json:
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": DATA_SOURCE,
        "targets": [_target(panel.kind, number, query) for number, query in enumerate(panel.queries)],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": _overrides(panel)},
        "options": _options(panel),
        "transformations": _columns(panel.columns) if panel.columns else [],
    }


def _target(kind: Kind, number: int, query: Query) -> Json:
    is_instant = kind == "table"
    return {
        "refId": chr(ord("A") + number),
        "datasource": DATA_SOURCE,
        "editorMode": "code",
        "expr": query.expr,
        "legendFormat": query.legend,
        "format": {"table": "table", "heatmap": "heatmap"}.get(kind, "time_series"),
        "instant": is_instant,
        "range": not is_instant,
        "exemplar": query.exemplars,
    }


def _defaults(panel: Panel) -> Json:
    usual = "green" if panel.kind == "stat" else "transparent"
    colors = {-math.inf: usual, **panel.thresholds}
    steps = [{"color": color, "value": None if value == -math.inf else value} for value, color in colors.items()]
    defaults: Json = {
        "unit": panel.unit,
        "color": {"mode": "thresholds" if panel.kind == "stat" else "palette-classic"},
        "thresholds": {"mode": "absolute", "steps": steps},
        "custom": _custom(panel),
    }
    if panel.minimum is not None:
        defaults["min"] = panel.minimum
    if panel.maximum is not None:
        defaults["max"] = panel.maximum
    if panel.link is not None:
        defaults["links"] = [_data_link(panel.link, panel.kind)]
    return defaults


def _custom(panel: Panel) -> Json:
    if panel.kind != "timeseries":
        return {}
    return {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 40 if panel.is_stacked else 8,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"mode": "normal" if panel.is_stacked else "none", "group": "A"},
        "thresholdsStyle": {"mode": "dashed" if panel.thresholds else "off"},
    }


def _overrides(panel: Panel) -> list[Json]:
    return [
        {
            "matcher": {"id": "byName", "options": name},
            "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": color}}],
        }
        for name, color in panel.colors.items()
    ]


_OPTIONS: Mapping[Kind, Json] = {
    "timeseries": {
        "legend": {"displayMode": "table", "placement": "bottom", "showLegend": True, "calcs": ["lastNotNull", "max"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "value",
        "graphMode": "area",
        "textMode": "auto",
        "justifyMode": "auto",
        "orientation": "auto",
        "wideLayout": True,
    },
    "table": {"showHeader": True, "cellHeight": "sm", "footer": {"show": False, "reducer": ["sum"], "fields": ""}},
    "heatmap": {
        "calculate": False,
        "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64, "fill": "dark-orange", "exponent": 0.5},
        "cellGap": 1,
        "filterValues": {"le": 1e-9},
        "yAxis": {"axisPlacement": "left", "reverse": False},
        "rowsFrame": {"layout": "auto"},
        "legend": {"show": True},
        "tooltip": {"mode": "single", "yHistogram": False, "showColorScale": False},
        "exemplars": {"color": "rgba(255,0,255,0.7)"},
    },
}


def _options(panel: Panel) -> Json:
    options = _OPTIONS[panel.kind]
    if panel.kind != "heatmap":
        return options
    # Its axis has a unit of its own, and what is counted in the cells another one.
    axis = {**options["yAxis"], "unit": panel.unit}
    return {**options, "yAxis": axis, "cellValues": {"unit": "short", "decimals": 0}}


def _columns(columns: Mapping[str, str]) -> list[Json]:
    return [
        {"id": "filterFieldsByName", "options": {"include": {"names": list(columns)}}},
        {
            "id": "organize",
            "options": {
                "excludeByName": {},
                "indexByName": {name: index for index, name in enumerate(columns)},
                "renameByName": dict(columns),
            },
        },
    ]


def _data_link(link: Link, kind: Kind) -> Json:
    source = "__data.fields" if kind == "table" else "__field.labels"
    values = "".join(f"&var-{label}=${{{source}.{label}}}" for label in link.labels)
    url = f"/d/{link.uid}?${{__url_time_range}}&var-datasource=${{datasource}}{values}"
    return {"title": link.title, "url": url, "targetBlank": False}


def _link_to_the_others() -> Json:
    return {
        "type": "dashboards",
        "title": "Pinhole",
        "tags": [TAG],
        "asDropdown": False,
        "includeVars": True,
        "keepTime": True,
        "targetBlank": False,
        "icon": "external link",
        "tooltip": "",
        "url": "",
    }


def _firing_alerts() -> Json:
    return {
        "name": "Alerts",
        "datasource": DATA_SOURCE,
        "enable": True,
        "hide": False,
        "iconColor": "red",
        "expr": 'ALERTS{alertname=~"Pinhole.+", alertstate="firing", namespace=~"$namespace"}',
        "step": "60s",
        "titleFormat": "{{alertname}}",
        "textFormat": "{{namespace}}/{{service}}",
        "tagKeys": "severity",
    }


def _data_source() -> Json:
    return {
        "type": "datasource",
        "name": "datasource",
        "label": "Data source",
        "query": "prometheus",
        "regex": "",
        "hide": 0,
        "includeAll": False,
        "multi": False,
        "refresh": 1,
        "options": [],
        "current": {},
    }


def _variable(variable: Variable) -> Json:
    return {
        "type": "query",
        "name": variable.name,
        "label": variable.label,
        "datasource": DATA_SOURCE,
        "definition": variable.query,
        "query": {"qryType": 1, "query": variable.query, "refId": f"Variable-{variable.name}"},
        "regex": "",
        "sort": 1,
        "refresh": 2,  # when the time range changes: pods come and go
        "hide": 0,
        "includeAll": True,
        "multi": True,
        "options": [],
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    }
