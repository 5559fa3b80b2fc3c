"""The tables of a benchmark."""

import math

import pytest

from benchmarks.inference.results import Limit, Overload, Results, Row, Throughput, percentile
from benchmarks.inference.tables import report
from benchmarks.inference.targets import targets

MIB = 2**20


def test_percentiles_are_values_that_were_measured() -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], 0.5) == 2.0
    assert percentile([1.0, 2.0], 0.99) == 2.0
    assert math.isnan(percentile([], 0.5))


def cells(text: str, title: str) -> list[list[str]]:
    """Return the lines of all tables that begin with `title`, cell by cell."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    return [line for line in lines if line[0] == title]


def loaded(
    factor: int, goodput: float, *, p99: float = 1.5, peak: int = 1000, recovery: float | None = 1.0
) -> Overload:
    return Overload(factor, 32.0 * factor, goodput, p99, 200, 7, 3, 9, peak * MIB, recovery)


def measured(*overload: Overload) -> Results:
    ours = Throughput(
        [30.0, 34.0], [0.9, 0.98], [0.02, 0.03], [0.001, 0.002], [0.5, 1.0], 0, 0.01, 700 * MIB, [0.001, 0.004]
    )
    rows = [
        Row("pinhole", "Pinhole", "bf16", [5.0], 512 * MIB, {640: ours}, list(overload)),
        Row("tutorial", "Tutorial", None, [4.0], 500 * MIB, {640: Throughput([8.0], [], [0.2], [], [2.0], 3)}),
        Row("ray", "Ray", None, [4.0], 512 * MIB, {640: Throughput([16.0], [], [], [], [])}),
        Row("litserve", "LitServe", problem="it does not serve"),
    ]
    return Results({"cores": 2}, rows, [Limit("bf16", 640, 35.0, 0.019)], [0.5], spent_seconds=600.0)


def test_a_report_compares_with_the_best_peer_the_tutorial_and_the_limit_of_the_round() -> None:
    text = report(measured(loaded(1, 30.0), loaded(3, 27.0, p99=2.001, recovery=None)))
    [speeds] = cells(text, "Pinhole (bf16)")
    assert speeds[1:5] == ["32.0", "2.00", "4.00", "94 %"]
    assert speeds[5:] == ["500.0", "1000.0", "1000.0", "25.0", "1.5", "2.5", "700", "0", "0.01"]
    assert cells(text, "Tutorial")[0][1:5] == ["8.0", "0.50", "1.00", ""]
    assert cells(text, "Tutorial")[1] == ["Tutorial", "4.0", "1.00", "500", "1.00", ""]
    assert cells(text, "Pinhole")[0] == ["Pinhole", "5.0", "1.25", "512", "1.02", ""]
    assert cells(text, "LitServe")[0][-1] == "it does not serve"
    overload = ["3x (96/s)", "27.0", "90 %", ">= 2001.0", "200", "1.5 %", "7", "9", "1000", "never"]
    assert cells(text, "Pinhole")[2][1:] == overload
    assert "limit, bf16: 35.0 images/s, lone 19.0 ms" in text
    assert "the run took 10 min" in text


def test_a_target_is_met_or_not_by_what_was_measured() -> None:
    results = measured(loaded(1, 30.0), loaded(3, 26.0, p99=1.99, peak=1200, recovery=2.5))
    assert {target.what: target.is_met for target in targets(results)} == {
        "images/s of the best peer's, 640 px": True,
        "images/s of the limit's, 640 px": False,
        "lone beside decode, preprocess and forward, 640 px": False,
        "idle memory of the tutorial's": False,
        "start to first answer of the tutorial's": True,
        "goodput at 3x of that at 1x": False,
        "p99 of who is let in at 3x": True,
        "peak memory at 3x of that at 1x": False,
        "recovery from 3x": False,
    }
    line = next(line for line in cells(report(results), "Pinhole") if line[1].startswith("goodput"))
    assert line[2:] == [">= 90 %", "86.67 %", "NO"]


@pytest.mark.parametrize(("name", "is_met"), [("pinhole", False), ("pinhole-fp32", True), ("pinhole-int8", False)])
def test_each_mode_has_its_own_ratio_to_reach(name: str, is_met: bool) -> None:
    results = measured()
    results.rows[0].name = name
    results.rows[2].throughput[640].images_per_second = [20.0]  # 1.6 times as much is ours
    assert targets(results)[0].is_met is is_met


def test_a_server_that_never_recovers_misses_that_target() -> None:
    results = measured(loaded(1, 30.0), loaded(3, 27.0, recovery=None))
    assert targets(results)[-1].is_met is False


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    results = measured()
    del results.rows[1:]
    results.rows[0].throughput[640].of_limit.clear()
    assert [target.is_met for target in targets(results)] == [None, None, False, None, None]
    met = ["not measured", "not measured", "NO", "not measured", "not measured"]
    assert [line[-1] for line in cells(report(results), "Pinhole")[1:]] == met


def test_a_report_of_servers_that_answered_nothing_can_be_made() -> None:
    row = Row("pinhole", "Pinhole", None, [4.0], 0, {640: Throughput([0.0], [], [math.nan])})
    row.overload += [Overload(factor, 0.0, 0.0, math.nan, 0, 0, 0, 0, 0, None) for factor in (1, 3)]
    assert cells(report(Results({}, [row])), "Pinhole")[0][1:3] == ["0.0", ""]
