"""What is made of the figures about traces."""

import pytest

from benchmarks.trace_costs import (
    BUILT_IN,
    MOST_LONE_SECONDS,
    OFF,
    OFF_TOO,
    Figures,
    Round,
    estimate,
    lone_added,
    report,
    throughput_lost,
    verdict,
)

QUIET = [-0.0001, -0.00005, 0.0, 0.00005, 0.0001, 0.0]


def rounds(added: list[float], chance: list[float]) -> list[Round]:
    """Return rounds in which a lone request takes so many seconds longer with traces, and with a second server."""
    plain = Figures(rate=100, lone_seconds=0.01, cpu_seconds=0.01)
    return [
        {
            OFF: plain,
            OFF_TOO: plain._replace(lone_seconds=0.01 + by_chance),
            "all": Figures(rate=98, lone_seconds=0.01 + seconds, cpu_seconds=0.011),
            BUILT_IN: Figures(rate=25, lone_seconds=0.05, cpu_seconds=0.049),
        }
        for seconds, by_chance in zip(added, chance, strict=True)
    ]


def test_of_few_rounds_the_interval_is_all_that_was_seen() -> None:
    found = estimate(rounds([0.003, 0.001, 0.002], [0, 0, 0]), "all", lone_added)
    assert found == pytest.approx((0.002, 0.001, 0.003))


def test_the_interval_of_a_median_is_that_of_the_sign_test() -> None:
    added = [number / 1000 for number in range(1, 19)]
    found = estimate(rounds(added, [0] * 18), "all", lone_added)
    assert found == pytest.approx((0.0095, 0.005, 0.014))  # the 5th and the 14th of 18 (tables of the sign test)


def test_what_traces_add_is_a_part_of_what_a_request_to_the_built_in_model_takes() -> None:
    slow = {arm: figures._replace(cpu_seconds=figures.cpu_seconds * 2) for arm, figures in rounds([0], [0])[0].items()}
    assert estimate([*rounds([0], [0]), slow], "all", throughput_lost) == pytest.approx((0.02, 0.02, 0.02))


@pytest.mark.parametrize(
    ("added", "chance", "said"),
    [
        ([0.0001] * 6, QUIET, "kept"),
        ([0.0004] * 6, QUIET, "missed"),
        ([0.0001] * 5 + [0.0004], QUIET, "not decided, take more rounds"),
        ([0.0001] * 6, [*QUIET[:5], 0.002], "not decided, two servers without traces differ by as much"),
    ],
)
def test_nothing_is_decided_that_chance_may_explain(added: list[float], chance: list[float], said: str) -> None:
    assert verdict(rounds(added, chance), lone_added, MOST_LONE_SECONDS) == said


def test_the_report_ends_with_the_verdicts() -> None:
    table, verdicts = "\n".join(report(rounds([0.0001] * 6, QUIET))).split("\n\n")
    assert [[cell.strip() for cell in line.split("|")[2:-1]] for line in table.splitlines()[2:]] == [
        ["100.0", "10.00", "", "10.00", "", ""],
        ["100.0", "10.00", "+0.00 (-0.10 to +0.10)", "10.00", "+0.00 (+0.00 to +0.00)", "+0.0% (+0.0% to +0.0%)"],
        ["98.0", "10.10", "+0.10 (+0.10 to +0.10)", "11.00", "+1.00 (+1.00 to +1.00)", "+2.0% (+2.0% to +2.0%)"],
        ["25.0", "50.00", "", "49.00", "", ""],
    ]
    assert verdicts.splitlines() == ["Throughput, under 3%: kept.", "A lone request, under 0.3 ms: kept."]
