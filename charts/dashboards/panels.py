"""What a page of Grafana shows: rows of panels, each of which asks Prometheus something."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["timeseries", "stat", "table", "heatmap"]


@dataclass(frozen=True, slots=True)
class Link:
    """Where a click on a value leads: another dashboard, with the labels of that value as variables."""

    title: str
    uid: str
    labels: Sequence[str] = ("namespace", "service")


@dataclass(frozen=True, slots=True)
class Query:
    """A question to Prometheus, and how the legend calls its answers."""

    expr: str
    legend: str = "__auto"
    exemplars: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """A picture of what one or more queries answer. `unit` is one of Grafana's."""

    title: str
    description: str
    unit: str
    queries: Sequence[Query]
    kind: Kind = "timeseries"
    width: int = 8
    height: int = 8
    is_stacked: bool = False
    minimum: float | None = 0
    maximum: float | None = None
    thresholds: Mapping[float, str] = field(default_factory=dict)
    """Colour from a value on: lines in a time series, the colour of the number in a stat."""
    colors: Mapping[str, str] = field(default_factory=dict)
    """Colour by name in the legend, for names that mean something."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Of a table: the labels that it shows, in their order, each with its heading; `Value` is the value."""
    link: Link | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A heading and the panels under it, from the left to the right, in as many lines as they need."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True)
class Variable:
    """What a viewer chooses: values of a label."""

    name: str
    label: str
    query: str


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One page of Grafana."""

    uid: str
    title: str
    description: str
    variables: Sequence[Variable]
    rows: Sequence[Row]
    since: str = "now-3h"
