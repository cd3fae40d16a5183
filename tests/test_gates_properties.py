"""The properties as a gate: what a report of `honestloop check` must say for the gate to pass."""

from typing import Any

import pytest

from gates.judge.property_report import hold
from gates.subject.offers import adapter_of, not_offered
from gates.subject.process import Finished
from gates.subject.property_runs import Checked, check_module
from honestloop.description import Description, Level
from honestloop.suite_location import ROOT


def checked(status: int, **said: Any) -> Checked:
    report = {"rules": {}, "examples": {}, "broken": {}, "expected": {}, "unfulfilled": [], **said}
    return Checked(Finished("check", status, "", "", 1.0), report)


def test_rules_that_hold_pass():
    found = hold(checked(0, rules={"ACT-01": "holds"}, examples={"ACT-01": 24}))
    assert found.passed
    assert found.figure == "1 rules hold, 24 examples: 0 broken"


@pytest.mark.parametrize(
    ("report", "said"),
    [
        (
            checked(1, rules={"ACT-01": "broken"}, broken={"ACT-01": "ACT-01  gelu\n  got 1, expected 2\n"}),
            "ACT-01: ACT-01  gelu; got 1, expected 2",
        ),
        (checked(1, unfulfilled=["ACT-01 holds"]), "ACT-01 holds"),
        (checked(3), "nothing was graded"),
        (checked(0), "did not end well"),
        (checked(5, rules={"ACT-01": "holds"}), "did not end well; got status 5"),
    ],
)
def test_anything_else_fails(report, said):
    found = hold(report)
    assert not found.passed
    assert said in found.message


NO_FUNCTIONS, ONE_FUNCTION = "CAPABILITIES = []\n", "def perplexity(nll_sum, tokens):\n    return 1.0\n"


def test_an_adapter_that_offers_nothing_does_not_pass(tmp_path):
    (tmp_path / "offers_nothing.py").write_text(NO_FUNCTIONS)
    found = hold(check_module("offers_nothing", tmp_path / "home", tmp_path))
    assert "nothing was graded" in found.message


def test_what_breaks_a_rule_is_named(tmp_path):
    (tmp_path / "one_function.py").write_text('CAPABILITIES = ["perplexity"]\n' + ONE_FUNCTION)
    found = hold(check_module("one_function", tmp_path / "home", tmp_path, "PPL"))
    assert not found.passed
    assert "PPL-01" in found.message


def test_an_adapter_is_found_and_not_imported(tmp_path):
    package = tmp_path / "some_package"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')\n")
    subject = Description("some_package", Level.PHASE_18, tmp_path, module="some_package")
    assert adapter_of(subject) is None
    assert "adapter" in not_offered(subject, None)
    (package / "adapter.py").write_text("raise RuntimeError('imported')\n")
    assert adapter_of(subject) == "some_package.adapter"
    assert adapter_of(Description("x", Level.COMMAND, tmp_path)) is None
    assert adapter_of(Description("x", Level.COMMAND, tmp_path, adapter="mine")) == "mine"


def test_the_lower_the_level_the_more_is_left_unproved():
    counts = [len(not_offered(Description("x", level, ROOT), None)) for level in Level]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[-1]
