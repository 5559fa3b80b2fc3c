"""What was measured, and the tables that say it."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

MIB = 1024 * 1024


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` of the values do not pass; NaN of none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


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


@dataclass
class Overload:
    """An open loop at some multiple of the capacity."""

    factor: int
    rate: float
    goodput: float
    """Answers within the deadline, a second."""

    p99_seconds: float
    """Of the answers within the deadline."""

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
    peak_bytes: int = 0
    throughput: dict[int, Throughput] = field(default_factory=dict)
    overload: list[Overload] = field(default_factory=list)
    problem: str | None = None
    """Why there are no numbers."""


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


def _median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else math.nan


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.1f}"


def _table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[column]) for line in (header, *lines)) for column in range(len(header))]
    rows = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in (header, *lines)]
    rows.insert(1, ["-" * width for width in widths])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def throughput_table(results: Results, width: int) -> str:
    """Return the table of one size of pictures; `of limit` and `over limit` compare within each round."""
    peers = [row for row in results.rows if not row.name.startswith("pinhole") and width in row.throughput]
    best = max((_median(row.throughput[width].images_per_second) for row in peers), default=math.nan)
    lines = []
    for row in results.rows:
        if found := row.throughput.get(width):
            speed = _median(found.images_per_second)
            times = [percentile(found.latencies, share) for share in (0.5, 0.95, 0.99)]
            lines.append(
                [
                    f"{row.title} ({row.mode})" if row.mode else row.title,
                    f"{speed:.1f}",
                    f"{speed / best:.2f}" if best else "",
                    f"{100 * _median(found.of_limit):.0f} %" if found.of_limit else "",
                    *map(_milliseconds, times),
                    _milliseconds(_median(found.lone_seconds)),
                    _milliseconds(_median(found.lone_over_limit_seconds)) if found.lone_over_limit_seconds else "",
                    str(found.failed),
                    f"{found.load_cores:.2f}",
                ]
            )
    header = ["server", "images/s", "x best peer", "of limit", "p50 ms", "p95 ms", "p99 ms"]
    return _table([*header, "lone ms", "over limit ms", "failed", "load's cores"], lines)


def process_table(results: Results) -> str:
    """Return the table of starts and memory."""
    lines = [
        [
            row.title,
            f"{_median(row.start_seconds):.1f}",
            f"{row.idle_bytes / MIB:.0f}",
            f"{row.peak_bytes / MIB:.0f}",
            row.problem or "",
        ]
        for row in results.rows
    ]
    return _table(["server", "start to first answer s", "idle MiB", "peak MiB", "problem"], lines)


def overload_table(results: Results) -> str:
    """Return the table of the open loops."""
    lines = []
    for row in results.rows:
        first = next((found.goodput for found in row.overload), math.nan)
        for found in row.overload:
            recovery = "never" if found.recovery_seconds is None else f"{found.recovery_seconds:.1f}"
            lines.append(
                [
                    row.title,
                    f"{found.factor}x ({found.rate:.0f}/s)",
                    f"{found.goodput:.1f}",
                    f"{100 * found.goodput / first:.0f} %" if first else "",
                    _milliseconds(found.p99_seconds),
                    str(found.refused),
                    str(found.late),
                    str(found.failed),
                    f"{found.peak_bytes / MIB:.0f}",
                    recovery,
                ]
            )
    header = ["server", "load", "goodput/s", "of 1x", "p99 ms", "refused", "late", "failed", "peak MiB", "recovery s"]
    return _table(header, lines)


def report(results: Results) -> str:
    """Return all tables."""
    parts = [f"load averages before each round: {', '.join(f'{load:.2f}' for load in results.load_averages)}"]
    for width in sorted({width for row in results.rows for width in row.throughput}):
        limits = [limit for limit in results.limits if limit.width == width]
        parts.append(f"JPEGs {width} pixels wide, 32 at a time")
        parts += [
            f"limit, {limit.mode}: {limit.images_per_second:.1f} images/s, lone {_milliseconds(limit.lone_seconds)} ms"
            for limit in limits
        ]
        parts.append(throughput_table(results, width))
    parts += ["Start and memory of the whole process tree", process_table(results)]
    if any(row.overload for row in results.rows):
        parts.append(
            f"Open loop, 640 pixels, callers hang up after {results.deadline_seconds:g} s; rates are multiples of the "
            "server's own images/s"
        )
        parts.append(overload_table(results))
    return "\n\n".join(parts)
