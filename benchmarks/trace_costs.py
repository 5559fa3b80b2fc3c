"""What the figures of `benchmarks.telemetry` say: differences, how sure they are, and whether traces cost too much."""

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

OFF, OFF_TOO = "off", "off, too"
"""The arms without traces: what others are compared with, and what shows how much of that is chance."""

MOST_THROUGHPUT = 0.03
MOST_LONE_SECONDS = 0.0003
"""What traces may cost: of the requests that eight callers get answered, and of the time of a lone one."""

CONFIDENCE = 0.95


class Figures(NamedTuple):
    """Of one arm in one round."""

    rate: float
    """Requests a second, of several callers."""

    lone_seconds: float
    """The median of what one caller waits."""

    cpu_seconds: float
    """Of the processor for one request: it tells more than the others where the machine has other work."""


Round = Mapping[str, Figures]
"""The figures of all arms, which were asked beside each other."""

Difference = Callable[[Figures, Figures], float]


def throughput_lost(traced: Figures, off: Figures) -> float:
    """Return which part of the requests a second traces cost."""
    return 1 - traced.rate / off.rate


def lone_added(traced: Figures, off: Figures) -> float:
    """Return the seconds that a lone request takes longer."""
    return traced.lone_seconds - off.lone_seconds


def cpu_added(traced: Figures, off: Figures) -> float:
    """Return the seconds of the processor that a request takes more."""
    return traced.cpu_seconds - off.cpu_seconds


class Estimate(NamedTuple):
    """The median of some differences, and between what it lies."""

    median: float
    low: float
    high: float


def estimate(rounds: Sequence[Round], arm: str, difference: Difference) -> Estimate:
    """Return by how much an arm differs from the one without traces in the same round, whatever the distribution is.

    The interval is that of the sign test: of few rounds it is all that was seen.
    """
    found = sorted(difference(each[arm], each[OFF]) for each in rounds)
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
    yield "| traces | requests/s | against off | a lone request, ms | against off | CPU ms a request | against off |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for arm in rounds[0]:
        rate, lone, cpu = (statistics.median(column) for column in zip(*(each[arm] for each in rounds), strict=True))
        against = [""] * 3
        if arm != OFF:
            lost, longer, dearer = (estimate(rounds, arm, of) for of in (throughput_lost, lone_added, cpu_added))
            against = [
                _written(each, scale, form)
                for each, scale, form in ((lost, -1, "+.1%"), (longer, 1000, "+.2f"), (dearer, 1000, "+.2f"))
            ]
        cells = (arm, f"{rate:.1f}", against[0], f"{lone * 1000:.2f}", against[1], f"{cpu * 1000:.2f}", against[2])
        yield f"| {' | '.join(cells)} |"
    yield ""
    yield f"Throughput, under {MOST_THROUGHPUT:.0%}: {verdict(rounds, throughput_lost, MOST_THROUGHPUT)}."
    yield f"A lone request, under {MOST_LONE_SECONDS * 1000:g} ms: {verdict(rounds, lone_added, MOST_LONE_SECONDS)}."


def _written(found: Estimate, scale: float, form: str) -> str:
    median, low, high = (each * scale + 0.0 for each in found)  # no zero with a minus
    return f"{median:{form}} ({min(low, high):{form}} to {max(low, high):{form}})"
