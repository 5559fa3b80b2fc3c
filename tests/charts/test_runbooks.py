"""Runbooks: whole, and true to what the services and the charts have."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.charts.flavours import CHARTS, ROOT
from tests.charts.tools import find_tool

RUNBOOKS = {path.stem: path for path in sorted((ROOT / "docs/runbooks").glob("*.md"))}
HEADINGS = ["Meaning", "Impact", "Diagnosis", "Causes", "Mitigation", "Over when"]
SOURCE = "".join(path.read_text() for path in ROOT.glob("services/*/src/**/*.py"))
every_runbook = pytest.mark.parametrize("alert", RUNBOOKS)


def text_of(alert: str) -> str:
    return RUNBOOKS[alert].read_text()


def blocks(alert: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.+?)^```$", text_of(alert), re.MULTILINE | re.DOTALL)


def is_value(chart: str, path: str) -> bool:
    """Tell whether the chart has a value under this path."""
    known: dict[str, Any] = json.loads((CHARTS / chart / "values.schema.json").read_text())
    for key in path.split("."):
        if "properties" not in known:
            return True  # what is below is free
        if key not in known["properties"]:
            return False
        known = known["properties"][key]
    return True


def test_there_are_runbooks() -> None:
    assert len(RUNBOOKS) > 20


@every_runbook
def test_a_runbook_says_all_that_somebody_on_call_needs(alert: str) -> None:
    text = text_of(alert)
    assert text.startswith(f"# {alert}\n")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == HEADINGS
    assert blocks(alert, "promql") or blocks(alert, "sh"), "nothing to look with"


@every_runbook
def test_its_links_lead_somewhere(alert: str) -> None:
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text_of(alert)):
        assert (RUNBOOKS[alert].parent / link).exists(), link


@every_runbook
def test_its_commands_are_commands(alert: str) -> None:
    for block in blocks(alert, "sh"):
        done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True, timeout=20, check=False)
        assert done.returncode == 0, done.stderr


@every_runbook
def test_what_it_looks_for_in_logs_is_logged(alert: str) -> None:
    for line in "".join(blocks(alert, "sh")).splitlines():
        wanted = re.search(r" logs .*grep (?:-E )?(?:-c )?(?:'([^']+)'|(\w+))", line)
        for event in (wanted[1] or wanted[2]).split("|") if wanted else ():
            assert f'"{event}' in SOURCE, event


@every_runbook
def test_the_values_that_it_changes_are_values(alert: str) -> None:
    for chart, path in re.findall(r"`(auth|users|inference|<service>)\.([A-Za-z][\w.]*)", text_of(alert)):
        charts = ["auth", "users", "inference"] if chart == "<service>" else [chart]
        assert any(is_value(each, path) for each in charts), f"{chart}.{path}"


def test_the_queries_are_valid(tmp_path: Path) -> None:
    queries = [line for alert in RUNBOOKS for block in blocks(alert, "promql") for line in block.splitlines()]
    assert len(queries) > len(RUNBOOKS)
    asked = [{"record": f"runbook:query_{number}:asked", "expr": query} for number, query in enumerate(queries)]
    path = tmp_path / "queries.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "runbooks", "rules": asked}]}))
    command = [find_tool("promtool"), "check", "rules", "--lint=none", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
