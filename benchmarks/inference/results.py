"""What was measured."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` of the values do not pass; NaN of none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


def median(values: Sequence[float]) -> float:
    """Return the median; NaN of none."""
    return statistics.median(values) if values else math.nan


@dataclass
class Throughput:
    """A closed loop at one size of pictures, over all rounds."""

    images_per_second: list[float] = field(default_factory=list)
    """One number a round, as the next two."""

    of_limit: list[float] = field(default_factory=list)
    lone_seconds: list[float] = field(default_factory=list)
    """The median of requests one after the other."""

    lone_over_limit_seconds: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    """Of all requests of all rounds at the full concurrency."""

    failed: int = 0
    load_cores: float = 0.0
    """What the load generator took."""

    peak_bytes: int = 0
    lone_beside_work_seconds: list[float] = field(default_factory=list)
    """The median of what lone requests took beside decode, preprocess and forward, which the server itself says."""


@dataclass
class Overload:
    """An open loop at some multiple of the capacity."""

    factor: int
    rate: float
    goodput: float
    """Answers within the deadline and before the load ended, a second."""

    p99_seconds: float
    """Of all who were let in; who hung up counts with the deadline, so it is no less than this."""

    accepted: int
    """Those who were let in, `late` ones among them."""

    refused: int
    late: int
    failed: int
    peak_bytes: int
    recovery_seconds: float | None


@dataclass
class Row:
    """One contender."""

    name: str
    title: str
    mode: str | None = None
    start_seconds: list[float] = field(default_factory=list)
    idle_bytes: int = 0
    throughput: dict[int, Throughput] = field(default_factory=dict)
    overload: list[Overload] = field(default_factory=list)
    problem: str | None = None
    """Why there are no numbers."""

    @property
    def is_ours(self) -> bool:
        """Tell whether it is the inference service."""
        return self.name.startswith("pinhole")

    def images_per_second(self, width: int) -> float:
        """Return the median of the rounds; NaN where nothing was measured."""
        found = self.throughput.get(width)
        return median(found.images_per_second) if found else math.nan


@dataclass
class Limit:
    """What torch gets done without a server, at one size, in one round."""

    mode: str
    width: int
    images_per_second: float
    lone_seconds: float


@dataclass
class Results:
    """One run."""

    machine: dict[str, Any]
    rows: list[Row]
    limits: list[Limit] = field(default_factory=list)
    load_averages: list[float] = field(default_factory=list)
    deadline_seconds: float = 2.0
    spent_seconds: float = 0.0

    @property
    def widths(self) -> list[int]:
        """Return the sizes of pictures that were measured."""
        return sorted({width for row in self.rows for width in row.throughput})

    @property
    def tutorial(self) -> Row:
        """Return the tutorial's server; one without numbers where it was left out."""
        return next((row for row in self.rows if row.name == "tutorial"), Row("tutorial", "tutorial"))

    def best_peer(self, width: int) -> float:
        """Return the most images a second of the other servers; NaN where there was none."""
        return max(
            (row.images_per_second(width) for row in self.rows if not row.is_ours and width in row.throughput),
            default=math.nan,
        )
