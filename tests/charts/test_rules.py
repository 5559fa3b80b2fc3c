"""Rules of Prometheus: valid, tested for firing and for silence, and each alert with a runbook."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from auth_service.account_events import EVENTS_PATH
from servicekit.metrics import DURATION_BUCKETS, UNMATCHED
from servicekit.revocations import REVOCATIONS_PATH

from charts.dashboards.queries import CALLERS, CALLS
from tests.charts.flavours import CHARTS, ROOT
from tests.charts.tools import find_tool

RULES = sorted((CHARTS / "pinhole/files/rules").glob("*.yaml"))
CASES = sorted(Path(__file__).with_name("rules").glob("*.yaml"))
RUNBOOKS = ROOT / "docs/runbooks"
WINDOWS = {"5m", "30m", "1h", "2h", "6h", "1d", "3d"}
BURN_RATES = {"14.4": ("1h", "5m"), "6": ("6h", "30m"), "3": ("1d", "2h"), "1": ("3d", "6h")}
"""The long and the short window of each: table 5-8 of "The Site Reliability Workbook"."""


def name_of(path: Path) -> str:
    return path.stem


def rules() -> Iterator[dict[str, Any]]:
    for path in RULES:
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from group["rules"]


ALERTS = {rule["alert"]: rule for rule in rules() if "alert" in rule}
RECORDED = [rule["record"] for rule in rules() if "record" in rule]


def promtool(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [find_tool("promtool"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)


def test_there_are_rules_and_cases() -> None:
    assert len(ALERTS) > 20
    assert {path.stem for path in RULES} <= {path.stem for path in CASES}


@pytest.mark.parametrize("path", RULES, ids=name_of)
def test_a_file_of_rules_is_valid(path: Path) -> None:
    done = promtool("check", "rules", "--lint=all", "--lint-fatal", str(path))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", CASES, ids=name_of)
def test_groups_that_need_each_other_are_evaluated_in_order(path: Path) -> None:
    """Promtool takes them in any order otherwise, and the results change from run to run."""
    cases = yaml.safe_load(path.read_text())
    groups = [
        group["name"]
        for file in cases["rule_files"]
        for group in yaml.safe_load((path.parent / file).read_text())["groups"]
    ]
    if any(file.endswith("/recording.yaml") for file in cases["rule_files"]):
        assert cases["group_eval_order"] == groups


@pytest.mark.parametrize("path", CASES, ids=name_of)
def test_alerts_fire_and_stay_silent(path: Path) -> None:
    done = promtool("test", "rules", str(path))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_has_a_case_that_fires_and_one_that_is_silent(alert: str) -> None:
    expected = [
        bool(case["exp_alerts"])
        for path in CASES
        for test in yaml.safe_load(path.read_text())["tests"]
        for case in test.get("alert_rule_test", [])
        if case["alertname"] == alert
    ]
    assert {True, False} == set(expected)


def test_each_alert_is_one_rule() -> None:
    assert len(ALERTS) == len([rule for rule in rules() if "alert" in rule])


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_says_how_bad_it_is_and_what_it_means(alert: str) -> None:
    rule = ALERTS[alert]
    assert alert.startswith("Pinhole")
    assert rule["labels"].keys() == {"severity"}
    assert rule["labels"]["severity"] in {"critical", "warning"}
    annotations = rule["annotations"]
    assert annotations.keys() == {"summary", "description", "runbook"}
    assert annotations["runbook"] == f"docs/runbooks/{alert}.md"
    assert not annotations["summary"].endswith(".")
    assert "$labels.namespace" in annotations["description"]
    assert annotations["description"].endswith(".")


def test_each_alert_has_a_runbook_and_each_runbook_an_alert() -> None:
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == set(ALERTS)


def test_each_cause_is_listed_as_bad_as_it_is() -> None:
    text = (ROOT / "docs/alerts.md").read_text()
    listed = dict(re.findall(r"^\| \[(\w+)\]\(runbooks/\1\.md\) \| (\w+) \|", text, re.MULTILINE))
    causes = {alert: rule["labels"]["severity"] for alert, rule in ALERTS.items() if "BudgetBurn" not in alert}
    assert listed == causes


@pytest.mark.parametrize("signal", ["errors", "slow_requests"])
def test_ratios_are_recorded_over_the_windows_of_the_alerts(signal: str) -> None:
    found = {name.rpartition("ratio")[2] for name in RECORDED if name.startswith(f"service:pinhole_{signal}:ratio")}
    assert found == WINDOWS


@pytest.mark.parametrize(
    ("alert", "signal", "objective", "rates"),
    [
        ("PinholeAvailabilityBudgetBurnFast", "errors", "availability", ("14.4", "6")),
        ("PinholeAvailabilityBudgetBurnSlow", "errors", "availability", ("3", "1")),
        ("PinholeLatencyBudgetBurnFast", "slow_requests", "latency", ("14.4", "6")),
        ("PinholeLatencyBudgetBurnSlow", "slow_requests", "latency", ("3", "1")),
    ],
)
def test_burn_rates_have_the_windows_of_the_workbook(
    alert: str, signal: str, objective: str, rates: tuple[str, str]
) -> None:
    ratio = rf"service:pinhole_{signal}:ratio(\w+)"
    budget = rf"(?:([\d.]+) \* )?\(1 - pinhole:{objective}:objective\)"
    pattern = rf"{ratio} > on \(job\) group_left \(\) {budget}"
    found = [(factor or "1", window) for window, factor in re.findall(pattern, ALERTS[alert]["expr"])]
    assert found == [(rate, window) for rate in rates for window in BURN_RATES[rate]]


def test_what_nobody_waits_for_is_left_out_of_every_rate() -> None:
    left_out = [pattern for rule in rules() for pattern in re.findall(r'http_route!~"([^"]+)"', rule["expr"])]
    assert len(left_out) == 5
    for path in ("/livez", "/readyz", "/metrics", REVOCATIONS_PATH, EVENTS_PATH, "/v2/health/ready", UNMATCHED):
        assert all(re.fullmatch(pattern, path) for pattern in left_out), path
    for path in ("/predict", "/token", "/users/{user_id}", "/v2/models/{name}/infer", "/internal/credentials/verify"):
        assert not any(re.fullmatch(pattern, path) for pattern in left_out), path


def test_dashboards_count_the_requests_that_the_rules_count() -> None:
    (counted,) = (rule["expr"] for rule in rules() if rule.get("record") == "service:pinhole_requests:rate5m")
    assert CALLERS in counted
    assert CALLS in counted


def test_what_counts_as_slow_is_a_bucket_that_is_measured() -> None:
    limits = {limit for rule in rules() for limit in re.findall(r'le="([^"]+)"', rule["expr"])}
    assert limits == {"0.5", "1.0"}
    assert limits <= {str(bucket) for bucket in DURATION_BUCKETS}


def test_a_recorded_rate_stands_for_a_minute_as_the_alerts_take_it() -> None:
    (group,) = (
        group
        for path in RULES
        for group in yaml.safe_load(path.read_text())["groups"]
        if group["name"] == "pinhole-requests"
    )
    assert group["interval"] == "1m"
    budgets = [rule["expr"] for alert, rule in ALERTS.items() if "BudgetBurn" in alert]
    assert all(len(re.findall(r"sum_over_time\([^)]*\) \* 60 >= 10", expression)) == 2 for expression in budgets)


def test_the_objectives_are_as_they_are_documented() -> None:
    text = (ROOT / "docs/alerts.md").read_text()
    rows = re.findall(r"^\| (auth|users|inference) \| ([\d.]+) %.*? \| ([\d.]+) % take", text, re.MULTILINE)
    documented = {service: (float(available), float(quick)) for service, available, quick in rows}
    targets = {
        (rule["labels"]["job"], rule["record"].split(":")[1]): float(rule["expr"].strip("vector()"))
        for rule in rules()
        if rule.get("record", "").endswith(":objective")
    }
    assert documented == {
        job: (100 * targets[job, "availability"], 100 * targets[job, "latency"])
        for job in ("auth", "users", "inference")
    }


def test_each_service_has_both_objectives() -> None:
    found = {
        (rule["record"], rule["labels"]["job"]) for rule in rules() if rule.get("record", "").endswith("objective")
    }
    names = ("pinhole:availability:objective", "pinhole:latency:objective")
    assert found == {(name, job) for name in names for job in ("auth", "users", "inference")}
