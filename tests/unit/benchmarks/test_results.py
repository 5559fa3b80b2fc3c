"""The tables of a benchmark."""

import math

from benchmarks.inference.results import Limit, Overload, Results, Row, Throughput, percentile, report


def test_percentiles_are_values_that_were_measured() -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], 0.5) == 2.0
    assert percentile([1.0, 2.0], 0.99) == 2.0
    assert math.isnan(percentile([], 0.5))


def cells(text: str, title: str) -> list[list[str]]:
    """Return the lines of all tables that begin with `title`, cell by cell."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    return [line for line in lines if line[0] == title]


def test_a_report_compares_with_the_best_peer_and_with_the_limit_of_the_round() -> None:
    ours = Throughput([30.0, 34.0], [0.9, 0.98], [0.02, 0.03], [0.001, 0.002], [0.5, 1.0], 0, 0.01)
    peer = Throughput([8.0], [], [0.2], [], [2.0], 3)
    silent = Throughput([0.0], [], [], [], [])
    overload = [
        Overload(factor, 32.0 * factor, good, 1.5, 7, 8, 9, 2**30, None) for factor, good in ((1, 30.0), (3, 27.0))
    ]
    rows = [
        Row("pinhole", "Pinhole", "bf16", [5.0], 2**29, 2**30, {640: ours}, overload),
        Row("tutorial", "Tutorial", None, [4.0], 2**29, 2**30, {640: peer}),
        Row("ray", "Ray", None, [4.0], 2**29, 2**30, {640: silent}),
        Row("litserve", "LitServe", problem="it does not serve"),
    ]
    text = report(Results({}, rows, [Limit("bf16", 640, 35.0, 0.019)], [0.5]))
    assert cells(text, "Pinhole (bf16)")[0][1:4] == ["32.0", "4.00", "94 %"]
    assert cells(text, "Tutorial")[0][1:4] == ["8.0", "1.00", ""]
    assert cells(text, "LitServe")[0][-1] == "it does not serve"
    assert [line[3] for line in cells(text, "Pinhole")[1:]] == ["100 %", "90 %"]
    assert "limit, bf16: 35.0 images/s, lone 19.0 ms" in text


def test_a_report_of_servers_that_answered_nothing_can_be_made() -> None:
    row = Row("tutorial", "Tutorial", None, [4.0], 0, 0, {640: Throughput([0.0], [], [math.nan])})
    row.overload.append(Overload(1, 0.0, 0.0, math.nan, 0, 0, 0, 0, None))
    assert cells(report(Results({}, [row])), "Tutorial")[0][1:3] == ["0.0", ""]
