"""docs/coverage.md: each capability names rules that exist, a test that is there and a command; or says why not."""

import re
from pathlib import Path

import pytest

from reference.rules import RULES

ROOT = Path(__file__).resolve().parents[1]
RULE = re.compile(r"\b([A-Z]+)-(\d\d)(?: to \1-(\d\d))?")


def cells():
    """The cells of every line of a table."""
    lines = (ROOT / "docs" / "coverage.md").read_text(encoding="utf-8").splitlines()
    tables = (line for line in lines if line.startswith("|") and not line.startswith("|--"))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in tables]


def rows():
    """The rows of capabilities, without headings."""
    return [row for row in cells() if row[0] != "capability" and not row[0].startswith("**")]


def rules_of(text):
    """The ids that a cell names; a range names those between."""
    for family, first, last in RULE.findall(text):
        yield from (f"{family}-{n:02}" for n in range(int(first), int(last or first) + 1))


def test_every_line_of_the_tables_is_a_row():
    assert {len(row) for row in cells()} == {5}
    assert len({row[0] for row in rows()}) == len(rows()) > 20


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_a_capability_names_what_checks_it(row):
    what, here, rules, test, command = row
    if not command:
        assert len(here) > 20, f"{what}: is not there, and does not say why"
        return
    named = list(rules_of(rules))
    assert named or not rules, f"{what}: {rules} is no rule"
    assert not set(named) - RULES.keys()
    for file in test.split(", "):
        assert (ROOT / file).is_file(), f"{what}: {file} is not there"
    assert re.fullmatch("`[^`]+`", command)
