"""A grading: a diagnosis that fails says so in one line, and the failure that it was asked about is told."""

import pytest

from fixtures.subjects import reference
from honestloop.conventions import Conventions
from honestloop.protocol import Subject
from properties import diagnosis
from properties.checks import all_properties
from properties.grading import Grading, Status
from properties.property_record import Record
from properties.strength import profile


def refused_perplexity(monkeypatch, diagnose):
    """The outcome of a wrong perplexity while this function makes the diagnosis."""
    monkeypatch.setattr(diagnosis, "diagnose", diagnose)
    functions = reference.functions(Conventions()) | {"perplexity": lambda nll_sum, tokens: 2.0}
    grading = Grading(Subject.of("wrong", functions, Conventions()))
    prop = next(p for p in all_properties().values() if p.rules[0] == "PPL-01")
    with grading.attempt(prop, Record(5)) as tried:
        prop.runnable(profile(5, shrink=False))(subject=grading.subject)
    return grading, tried.outcome


@pytest.mark.parametrize("error", [RuntimeError("two\nlines"), KeyError("E"), RecursionError()])
def test_a_diagnosis_that_fails_is_one_line_and_hides_nothing(monkeypatch, error):
    def fails(*args, **kwargs):
        raise error

    grading, outcome = refused_perplexity(monkeypatch, fails)
    assert outcome.status == Status.BROKEN
    assert grading.broken == {"PPL-01": None}
    said = [line for line in outcome.text.splitlines() if "behaves like" in line]
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    assert said == [f"  behaves like: not known: the diagnosis itself failed ({reason})"]
    assert "got 2.0, expected" in outcome.text and "rule: " in outcome.text and "snippet:" in outcome.text


def test_a_diagnosis_is_interrupted_as_anything_else_is(monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        refused_perplexity(monkeypatch, interrupted)


def test_a_diagnosis_that_does_not_fail_says_nothing_of_it(monkeypatch):
    _, outcome = refused_perplexity(monkeypatch, diagnosis.diagnose)
    assert outcome.status == Status.BROKEN
    assert "the diagnosis itself failed" not in outcome.text
