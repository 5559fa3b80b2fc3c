"""What the figures of `benchmarks.telemetry` say: differences, how sure they are, and whether traces cost too much."""

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

OFF, OFF_TOO, BUILT_IN = "off", "off, too", "off, built-in model"
"""The arms without traces: what others are compared with, what shows how much of that is chance, and what a request
takes where a real network is computed. The others compute next to nothing."""

MOST_THROUGHPUT = 0.03
MOST_LONE_SECONDS = 0.0003
"""What traces may cost: of the requests that are answered where all CPUs are busy, and of the time of a lone one."""

CONFIDENCE = 0.95


class Figures(NamedTuple):
    """Of one arm in one round."""

    rate: float
    """Requests a second, of several callers."""

    lone_seconds: float
    """The median of what one caller waits."""

    cpu_seconds: float
    """Of the processor, for one request."""


Round = Mapping[str, Figures]
"""The figures of all arms, which were asked beside each other."""

Difference = Callable[[Round, str], float]
"""How far an arm is from the one without traces in the same round."""


def lone_added(figures: Round, arm: str) -> float:
    """Return the seconds that a lone request takes longer."""
    return figures[arm].lone_seconds - figures[OFF].lone_seconds


def cpu_added(figures: Round, arm: str) -> float:
    """Return the seconds of the processor that a request takes more."""
    return figures[arm].cpu_seconds - figures[OFF].cpu_seconds


def throughput_lost(figures: Round, arm: str) -> float:
    """Return which part of the requests a second are lost where CPUs are all that there is too little of.

    The spans of a request are the same whatever its model computes, so what they add to it is seen best beside
    next to nothing; it is a part of what a request to the built-in model takes with it.
    """
    added = cpu_added(figures, arm)
    return added / (figures[BUILT_IN].cpu_seconds + added)


class Estimate(NamedTuple):
    """The median of some differences, and between what it lies."""

    median: float
    low: float
    high: float


def estimate(rounds: Sequence[Round], arm: str, difference: Difference) -> Estimate:
    """Return by how much an arm differs from the one without traces in the same round, whatever the distribution is.

    The interval is that of the sign test: of few rounds it is all that was seen.
    """
    found = sorted(difference(each, arm) for each in rounds)
    number, rank = len(found), 0
    while 2 * sum(math.comb(number, below) for below in range(rank + 2)) <= (1 - CONFIDENCE) * 2**number:
        rank += 1
    return Estimate(statistics.median(found), found[rank], found[-1 - rank])


def verdict(rounds: Sequence[Round], difference: Difference, most: float) -> str:
    """Say whether keeping all traces costs less than `most`, as far as that can be told."""
    chance, cost = (estimate(rounds, arm, difference) for arm in (OFF_TOO, "all"))
    if max(-chance.low, chance.high) > most:
        return "not decided, two servers without traces differ by as much"
    if cost.high < most:
        return "kept"
    return "missed" if cost.low > most else "not decided, take more rounds"


def report(rounds: Sequence[Round]) -> Iterator[str]:
    """Yield the lines of the table, and below it the verdicts."""
    yield "| traces | requests/s | a lone request, ms | added | CPU ms a request | added | throughput lost |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for arm in rounds[0]:
        rate, lone, cpu = (statistics.median(column) for column in zip(*(each[arm] for each in rounds), strict=True))
        longer, dearer, lost = "", "", ""
        if arm not in {OFF, BUILT_IN}:
            longer = _written(estimate(rounds, arm, lone_added), 1000, "+.2f")
            dearer = _written(estimate(rounds, arm, cpu_added), 1000, "+.2f")
            lost = _written(estimate(rounds, arm, throughput_lost), 1, "+.1%")
        cells = (arm, f"{rate:.1f}", f"{lone * 1000:.2f}", longer, f"{cpu * 1000:.2f}", dearer, lost)
        yield f"| {' | '.join(cells)} |"
    yield ""
    yield f"Throughput, under {MOST_THROUGHPUT:.0%}: {verdict(rounds, throughput_lost, MOST_THROUGHPUT)}."
    yield f"A lone request, under {MOST_LONE_SECONDS * 1000:g} ms: {verdict(rounds, lone_added, MOST_LONE_SECONDS)}."


def _written(found: Estimate, scale: float, form: str) -> str:
    median, low, high = (each * scale + 0.0 for each in found)  # no zero with a minus
    return f"{median:{form}} ({min(low, high):{form}} to {max(low, high):{form}})"
