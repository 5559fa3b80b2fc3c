"""The pages for people: what they point to is there, and what is written by a program is up to date."""

import re
from pathlib import Path

import pytest

from docs.settings import PAGE, page

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)|\b(?:src|href|srcset)=\"([^\"]+)\"")
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)


def anchors(document: Path) -> set[str]:
    """Return what the headings of a page are reached by, as GitHub makes it of them."""
    text = re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_page_points_only_to_what_is_there(document: Path) -> None:
    links = [first or second for first, second in LINK.findall(CODE.sub("", document.read_text()))]
    for link in links:
        target, _, anchor = link.partition("#")
        if re.match(r"\w+:", target):
            continue
        path = (document.parent / target).resolve() if target else document
        assert path.exists(), link
        assert not anchor or anchor in anchors(path), link


def test_every_page_is_reached_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    for document in (ROOT / "docs").glob("*.md"):
        assert f"(docs/{document.name}" in readme, document.name


def test_the_page_of_settings_is_that_of_the_settings() -> None:
    assert PAGE.read_text() == page(), "make settings-page"


def test_the_pages_name_only_files_that_are_there() -> None:
    for document in PAGES:
        for path in re.findall(
            r"`((?:services|tests|docs|charts|k8s|examples|benchmarks)/[\w./-]+)`", document.read_text()
        ):
            assert (ROOT / path).exists(), f"{document.name}: {path}"
