"""The table of rules is complete and used."""

import importlib.util
import re
from pathlib import Path

from gates.verdict.definition import GATES
from honestloop import run_check
from properties.checks import all_properties
from reference.rules import RULES

ROOT = Path(__file__).parents[1]


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
    assert by_properties | by_gates | by_every_call | set(run_check.CHECKED) == set(RULES)


def test_the_page_of_rules_is_the_table():
    """`python docs/generate.py` writes it."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    assert (ROOT / "docs" / "rules.md").read_text(encoding="utf-8") == generate.rules_page()
