"""What the service is to reach, and whether it did in a run."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.inference.results import Overload, Results, Row, median

TIMES_BEST_PEER = {
    "pinhole": 2.0,
    "pinhole-image": 2.0,
    "pinhole-fp32": 1.2,
    "pinhole-cascade": 2.0,
    "pinhole-int8": 3.0,
}
OF_LIMIT = 0.95
LONE_BESIDE_WORK_SECONDS = 0.002
IDLE_OF_TUTORIAL = 1.0
START_OF_TUTORIAL = 1.5
GOODPUT_OF_1X = 0.9
RECOVERY_SECONDS = 2.0
PEAK_OF_1X = 1.1
"""Flat memory: what a heap does by itself from one load to the next stays within this."""


@dataclass(frozen=True)
class Target:
    """One thing to reach."""

    row: str
    what: str
    target: str
    measured: str
    is_met: bool | None
    """None where it was not measured."""


def targets(results: Results) -> list[Target]:
    """Return the targets of each row of the service, in the order of the rows."""
    return [
        target
        for row in results.rows
        if row.is_ours and row.problem is None
        for target in (*_speed(row, results), *_process(row, results), *_overload(row, results))
    ]


def _target(row: Row, what: str, bound: float, measured: float, unit: str = "", *, least: bool = False) -> Target:
    """Return a target that is met by `bound` or more where that is the `least`, else by `bound` or less."""
    is_met = measured >= bound if least else measured <= bound
    return Target(
        row.title,
        what,
        f"{'>=' if least else '<='} {bound:g}{unit}",
        "" if math.isnan(measured) else f"{measured:.2f}{unit}",
        None if math.isnan(measured) else is_met,
    )


def _speed(row: Row, results: Results) -> Iterator[Target]:
    for width, found in sorted(row.throughput.items()):
        ratio = row.images_per_second(width) / (results.best_peer(width) or math.nan)
        yield _target(
            row, f"images/s of the best peer's, {width} px", TIMES_BEST_PEER[row.name], ratio, " x", least=True
        )
        share = 100 * median(found.of_limit)
        yield _target(row, f"images/s of the limit's, {width} px", 100 * OF_LIMIT, share, " %", least=True)
        beside = 1000 * median(found.lone_beside_work_seconds)
        what = f"lone beside decode, preprocess and forward, {width} px"
        yield _target(row, what, 1000 * LONE_BESIDE_WORK_SECONDS, beside, " ms")


def _process(row: Row, results: Results) -> Iterator[Target]:
    idle = row.idle_bytes / (results.tutorial.idle_bytes or math.nan)
    yield _target(row, "idle memory of the tutorial's", IDLE_OF_TUTORIAL, idle, " x")
    start = median(row.start_seconds) / median(results.tutorial.start_seconds)
    yield _target(row, "start to first answer of the tutorial's", START_OF_TUTORIAL, start, " x")


def _overload(row: Row, results: Results) -> Iterator[Target]:
    """Compare the highest load with the lowest, which is the capacity."""
    if len(row.overload) < 2:
        return
    capacity, most = row.overload[0], row.overload[-1]
    at = f"at {most.factor}x"
    share = 100 * most.goodput / (capacity.goodput or math.nan)
    yield _target(row, f"goodput {at} of that at {capacity.factor}x", 100 * GOODPUT_OF_1X, share, " %", least=True)
    yield _target(row, f"p99 of who is let in {at}", results.deadline_seconds, most.p99_seconds, " s")
    memory = most.peak_bytes / (capacity.peak_bytes or math.nan)
    yield _target(row, f"peak memory {at} of that at {capacity.factor}x", PEAK_OF_1X, memory, " x")
    yield _target(row, f"recovery from {most.factor}x", RECOVERY_SECONDS, _recovery(most), " s")


def _recovery(found: Overload) -> float:
    return math.inf if found.recovery_seconds is None else found.recovery_seconds
