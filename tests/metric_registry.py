"""docs/metrics.yaml, and what it says of the metrics that a service exposes."""

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from tests.exposition import Exposition

PATH = Path(__file__).parents[1] / "docs/metrics.yaml"
UNITS = ("seconds", "bytes")

Service = Literal["auth", "users", "inference", "gateway"]
Condition = Literal["one worker", "cuda", "traces", "grpc"]


class Listed(BaseModel):
    """One metric as it is listed. A label whose values are a list has no others."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    type: Literal["counter", "gauge", "histogram"]
    buckets: list[str] | None = None
    unit: Literal["seconds", "bytes"] | None = None
    services: list[Service]
    labels: Mapping[str, list[str] | str] = Field(default_factory=dict)
    exemplars: bool = False
    when: Condition | None = None
    workers: Literal["sum", "max", "min"] | None = None
    meaning: str

    @property
    def series(self) -> Mapping[str, frozenset[str]]:
        """The labels of each name that its samples have in Prometheus."""
        labels = frozenset(self.labels)
        if self.type != "histogram":
            return {self.name: labels}
        return {f"{self.name}_bucket": labels | {"le"}, f"{self.name}_sum": labels, f"{self.name}_count": labels}

    def misnamings(self) -> Iterator[str]:
        """Tell where the name does not say type and unit."""
        if self.name.endswith("_total") is not (self.type == "counter"):
            yield f"{self.name}: a counter, and nothing else, ends in _total"
        ending = next((unit for unit in UNITS if self.name.removesuffix("_total").endswith(f"_{unit}")), None)
        if (self.buckets is not None) is not (self.type == "histogram"):
            yield f"{self.name}: a histogram, and nothing else, has buckets"
        if ending != self.unit:
            yield f"{self.name}: the unit is {self.unit}, and the name says {ending}"

    def values(self, label: str) -> list[str] | None:
        """Return the only values of a label, None where they are not listed."""
        if label == "le" and self.buckets is not None:
            return [*self.buckets, "+Inf"]
        values = self.labels.get(label)
        return values if isinstance(values, list) else None

    def differences(self, exposition: Exposition) -> Iterator[str]:
        """Tell how the metric of this name in an answer is not as it is listed."""
        family = exposition.families[self.name]
        if family.type != self.type:
            yield f"{self.name}: a {family.type}, listed as a {self.type}"
        for sample in family.samples:
            if frozenset(sample.labels) != self.series.get(sample.name):
                yield f"{sample.name}: has the labels {sorted(sample.labels)}"
            for label, value in sample.labels.items():
                values = self.values(label)
                if values is not None and value not in values:
                    yield f"{sample.name}: {label} is {value!r}, and listed are {values}"
        buckets = {sample.labels["le"] for sample in family.samples if "le" in sample.labels}
        if buckets and buckets != set(self.values("le") or ()):
            yield f"{self.name}: has the buckets {sorted(buckets)}"


class Foreign(BaseModel):
    """A metric of somebody else, with the labels that queries use."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    name: str
    source: str = Field(alias="from")
    labels: list[str]


class MetricRegistry(BaseModel):
    """All of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metrics: list[Listed]
    scrape_labels: list[str]
    foreign: list[Foreign]

    def of(self, service: Service, conditions: AbstractSet[Condition]) -> dict[str, Listed]:
        """Return by name what a service exposes where these conditions hold."""
        return {
            metric.name: metric
            for metric in self.metrics
            if service in metric.services and (metric.when is None or metric.when in conditions)
        }

    def differences(self, service: Service, exposition: Exposition, conditions: AbstractSet[Condition]) -> list[str]:
        """Tell how the answer of a service is not as it is listed."""
        listed = self.of(service, conditions)
        return [
            *(f"{name}: is not there" for name in sorted(listed.keys() - exposition.families.keys())),
            *(f"{name}: is not listed" for name in sorted(exposition.families.keys() - listed.keys())),
            *(
                difference
                for name in sorted(listed.keys() & exposition.families.keys())
                for difference in listed[name].differences(exposition)
            ),
        ]

    @property
    def series(self) -> dict[str, frozenset[str]]:
        """The labels of every name that a query may use, as Prometheus keeps it."""
        scraped = frozenset(self.scrape_labels)
        ours = {name: labels | scraped for metric in self.metrics for name, labels in metric.series.items()}
        return ours | {foreign.name: frozenset(foreign.labels) | scraped for foreign in self.foreign}

    def bounded(self, name: str, label: str) -> list[str] | None:
        """Return the only values of a label of a series of ours, None where they are not listed."""
        for metric in self.metrics:
            if name in metric.series:
                return metric.values(label)
        return None


def read_metric_registry() -> MetricRegistry:
    """Read the file."""
    return MetricRegistry.model_validate(yaml.safe_load(PATH.read_text()))
