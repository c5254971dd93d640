"""docs/security.md says by which test each limit is held: the tests are there, and a row without one says that it is a gap."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
POLICY = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
ATTACKS, REQUIREMENTS = "Attacks, and the tests that hold them", "Requirements, and where each is tested"
NAMED = re.compile(r"`(test_\w+)`")


def rows(heading: str) -> list[list[str]]:
    """The table's rows under a heading, without its head."""
    (section,) = re.findall(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("|")]
    return cells[2:]


def existing_tests() -> set[str]:
    text = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    return set(re.findall(r"^\s*def (test_\w+)\(", text, re.MULTILINE))


def test_every_test_that_the_page_names_exists() -> None:
    assert sorted(set(NAMED.findall(PAGE)) - existing_tests()) == []


@pytest.mark.parametrize("heading", [ATTACKS, REQUIREMENTS])
def test_every_row_names_a_test_or_admits_a_gap(heading: str) -> None:
    found = rows(heading)
    assert len(found) >= 15
    assert [row for row in found if not NAMED.search(row[-1]) and not row[-1].startswith("gap: ")] == []


def test_every_requirement_has_its_row() -> None:
    assert [row[0] for row in rows(REQUIREMENTS)] == [f"S{number}" for number in range(1, 16)]


def test_the_security_policy_says_how_to_report_what_to_expect_and_what_is_supported() -> None:
    for part in ("Reporting.", "What you can expect.", "Disclosure.", "What counts.", "Supported versions."):
        assert f"**{part}**" in POLICY
    assert "@" not in POLICY  # an address that nobody reads is worse than none
