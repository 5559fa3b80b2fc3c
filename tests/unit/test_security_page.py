"""The page on security: it has each requirement of the standard, and the proofs that it names are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()
REQUIREMENTS = (ROOT / "tests" / "data" / "asvs-5.0-v6-v10.txt").read_text().splitlines()
"""Number and level of each requirement of levels 1 and 2, in the order of the standard (v5.0.0)."""

VERDICTS = {"met", "partly", "not met", "does not apply"}
ROWS = re.findall(r"^\| (\d+\.\d+\.\d+) \| ([12]) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", PAGE, re.MULTILINE)
PROOF = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
LINK = re.compile(r"\]\(([^)]+)\)")


def test_no_requirement_is_missing_or_made_up() -> None:
    assert [f"{number} {level}" for number, level, *_ in ROWS] == REQUIREMENTS


@pytest.mark.parametrize(("verdict", "reason"), [row[3:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_each_requirement_has_a_verdict_and_what_it_rests_on(verdict: str, reason: str) -> None:
    assert verdict in VERDICTS
    assert len(reason) > 10
    if verdict == "met":
        assert PROOF.search(reason) or LINK.search(reason)


@pytest.mark.parametrize(("path", "name"), sorted(set(PROOF.findall(PAGE))))
def test_each_proof_is_a_test_that_is_there(path: str, name: str) -> None:
    assert re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text(), re.MULTILINE)


@pytest.mark.parametrize("link", sorted({link for link in LINK.findall(PAGE) if not link.startswith("http")}))
def test_each_link_leads_somewhere(link: str) -> None:
    path, _, heading = link.partition("#")
    page = (ROOT / "docs" / path).read_text() if path else PAGE
    headings = {
        re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in re.findall(r"^#+ (.+)$", page, re.M)
    }
    assert not heading or heading in headings


def test_the_summary_counts_right() -> None:
    counts = {verdict: sum(row[3] == verdict for row in ROWS) for verdict in VERDICTS}
    assert (
        f"Of {len(ROWS)} requirements {counts['met']} are met, {counts['partly']} partly, {counts['not met']} not, "
        f"and {counts['does not apply']} do not apply."
    ) in PAGE
