"""The table of rules is complete and used."""

import re
from pathlib import Path

from gates.verdict.definition import GATES
from honestloop import run_check
from properties.checks import all_properties
from reference.rules import RULES
from tests.page_generator import generator

ROOT = Path(__file__).parents[1]
CONTRIBUTING = "CONTRIBUTING.md has a rule worked through: its entry, its property, its mutant, its page"
"""Who adds a rule meets these tests first."""


def test_ids_are_well_formed_and_fields_are_filled():
    for rule_id, rule in RULES.items():
        assert rule_id == rule.id
        assert re.fullmatch(r"[A-Z]{2,6}-\d\d", rule.id)
        for text in (rule.statement, rule.why, rule.source, rule.hint):
            assert text
            assert text == text.strip()


def test_every_rule_is_checked_and_every_property_has_a_rule():
    """By a property, a check of a gate, or check-run; what @checks does not know it refuses."""
    by_properties = {rule for prop in all_properties().values() for rule in prop.rules}
    by_gates = {rule for gate in GATES for rule in gate.checks.values()}
    by_every_call = {"SUBJ-05", "SUBJ-07"}  # honestloop/guard.py
    checked = by_properties | by_gates | by_every_call | set(run_check.CHECKED)
    assert checked == set(RULES), CONTRIBUTING


def test_the_pages_of_rules_are_the_table():
    """`python docs/generate.py` writes them: the index and a page a rule, and no page of a rule that is gone."""
    docs = ROOT / "docs"
    pages = generator("generate").rules()
    committed = {path.relative_to(docs).as_posix() for path in (docs / "rules").iterdir()} | {"rules.md"}
    assert committed == pages.keys(), CONTRIBUTING
    stale = [name for name, text in pages.items() if (docs / name).read_text(encoding="utf-8") != text]
    assert stale == [], CONTRIBUTING


def test_every_rule_has_an_address_that_is_a_page_and_an_anchor_in_the_index():
    index = (ROOT / "docs" / "rules.md").read_text(encoding="utf-8")
    for rule in RULES.values():
        assert (ROOT / rule.address).is_file()
        assert f'<a id="{rule.id.lower()}"></a>[{rule.id}](rules/' in index


def test_conventions_of_a_rule_are_those_that_its_properties_read_and_that_excuse_its_mutants():
    conventions_of = generator("page_writers/conventions_of_rules").conventions_of
    assert conventions_of("CLIP-02") == ["clip", "norm", "scalars"]
    assert "decay" in conventions_of("OPT-01")
    assert "gelu" in conventions_of("ACT-01")
    assert conventions_of("PPL-01") == []
