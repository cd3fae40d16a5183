"""docs/errata.md: each row says what is true, and names rules that exist."""

import re
from pathlib import Path

from reference.rules import RULES

PAGE = Path(__file__).resolve().parents[1] / "docs" / "errata.md"


def rows():
    """The cells of each row of the tables, without their heads."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in lines
        if not line.startswith(("| claim", "|---"))
    ]


def test_each_row_has_a_claim_a_truth_and_rules_that_exist():
    assert len(rows()) >= 12
    for claim, truth, shown in rows():
        assert claim and truth
        ids = re.findall(r"[A-Z]+-\d\d", shown)
        assert ids and not set(ids) - RULES.keys(), claim
