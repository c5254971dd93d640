"""docs/stories.md says which story shows that a failure of others does not happen here: the stories are there, and a gap says it is one."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "stories.md").read_text(encoding="utf-8")
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
INCIDENTS, TESTS = "The five Japanese incidents", "The acceptance tests"


def rows(heading: str) -> list[list[str]]:
    """The table's rows under a heading, without its head."""
    (section,) = re.findall(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("|")]
    return cells[2:]


def test_every_story_that_the_page_names_is_told_where_it_says() -> None:
    missing = [
        f"{file}::{name}"
        for file, name in NAMED.findall(PAGE)
        if not (ROOT / file).exists() or f"def {name}(" not in (ROOT / file).read_text(encoding="utf-8")
    ]
    assert missing == []


@pytest.mark.parametrize("heading", [INCIDENTS, TESTS])
def test_every_failure_has_its_story_or_admits_a_gap(heading: str) -> None:
    assert [row for row in rows(heading) if not NAMED.search(row[-1]) and not row[-1].startswith("gap: ")] == []


def test_every_incident_and_every_acceptance_test_has_its_row() -> None:
    assert len(rows(INCIDENTS)) == 5
    assert [row[0] for row in rows(TESTS)] == [str(number) for number in range(1, 21)]
    assert all(row[2] for row in rows(INCIDENTS) + rows(TESTS))
