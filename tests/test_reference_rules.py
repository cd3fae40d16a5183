"""The table of rules is complete and used."""

import re
from pathlib import Path

from reference.rules import RULES

PROPERTIES = Path(__file__).parents[1] / "properties"
TEXTS = {path.name: path.read_text() for path in PROPERTIES.glob("test_*.py")}


def test_ids_are_well_formed_and_fields_are_filled():
    for rule_id, rule in RULES.items():
        assert rule_id == rule.id
        assert re.fullmatch(r"[A-Z]{3,6}-\d\d", rule.id)
        for text in (rule.statement, rule.why, rule.source, rule.hint):
            assert text
            assert text == text.strip()


def test_no_id_is_defined_twice():
    source = (PROPERTIES.parent / "reference" / "rules.py").read_text()
    ids = re.findall(r'^            "([A-Z]+-\d\d)",$', source, flags=re.MULTILINE)
    assert len(ids) == len(set(ids)) == len(RULES)


def test_every_rule_has_a_property_and_every_property_a_rule():
    used = {rule for text in TEXTS.values() for rule in re.findall(r'"([A-Z]{3,6}-\d\d)"', text)}
    assert used == set(RULES)


def test_no_property_compares_floats_with_a_guessed_tolerance():
    for name, text in TEXTS.items():
        if "(subject" not in text:
            continue  # a property of our own data, which is exact or has its own derivation
        for guess in ("allclose", "isclose", "pytest.approx", "rtol", "atol", "assert_almost_equal"):
            assert guess not in text, f"{name} uses {guess}"
