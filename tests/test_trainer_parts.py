"""A trainer that has only some parts is graded by them; the rules that need the others are not offered."""

import pytest

from fixtures.mutants import MUTANTS
from fixtures.subjects import reference
from honestloop.conventions import Conventions
from honestloop.protocol import ProtocolError, Subject
from properties.assertions import NotOfferedError, Refusal
from properties.checks import all_properties
from properties.property_record import Record, recording
from properties.strength import profile

EXAMPLES = 8


class Lean:
    """Train, parameters, a checkpoint; a record of loss and rate, and a word of its own."""

    def __init__(self, trainer):
        self._trainer = trainer
        self.parameters, self.save, self.load = trainer.parameters, trainer.save, trainer.load

    def train(self, micro_batches, accumulate):
        records = self._trainer.train(micro_batches, accumulate)
        return [{"loss": r["loss"], "lr": r["lr"], "remark": "an extra field"} for r in records]


def lean(trainer, parts=("save", "load")):
    """A subject of such trainers."""
    made = {"trainer": lambda *args: Lean(trainer(*args)), "TRAINER_PARTS": parts}
    return Subject.of("lean", made, Conventions())


def verdicts(subject, rules, examples=EXAMPLES):
    """Rule -> what became of it: "holds", "not offered", or the rule that is broken."""
    found: dict[str, str] = {}
    for prop in all_properties().values():
        if "trainer" in prop.functions and prop.rules[0] in rules:
            for case in prop.cases():
                try:
                    with recording(Record(examples)):
                        prop.runnable(profile(examples, shrink=False))(subject=subject, **case)
                except NotOfferedError:
                    found.setdefault(prop.rules[0], "not offered")
                except Refusal as refusal:
                    return found | {prop.rules[0]: refusal.rule}
                else:
                    found[prop.rules[0]] = "holds"
    return found


def test_what_is_there_is_judged_and_what_is_not_is_not_offered():
    right = reference.functions(Conventions())["trainer"]
    there = dict.fromkeys(("LOOP-01", "LOOP-02", "LOOP-05", "LOOP-07", "RNG-01", "STATE-01"), "holds")
    missing = dict.fromkeys(
        ("LOOP-03", "EVAL-01", "EVAL-02", "EVAL-03", "EVAL-05", "STATE-06"), "not offered"
    )
    assert verdicts(lean(right), {*there, *missing}) == there | missing


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("state_without_moments", "STATE-01"),
        ("loop_mean_of_micro_batch_means", "LOOP-02"),
        ("loop_bias_decays", "LOOP-05"),
    ],
)
def test_mistakes_of_what_is_there_are_refused(name, rule):
    assert verdicts(lean(MUTANTS[name].under()), {rule}, 40) == {rule: rule}


def test_what_is_promised_must_be_there():
    right = reference.functions(Conventions())["trainer"]
    assert verdicts(lean(right, ("evaluate",)), {"EVAL-01"}) == {"EVAL-01": "SUBJ-08"}
    assert verdicts(lean(right, ("tokens",)), {"LOOP-01"}) == {"LOOP-01": "LOOP-01"}


def test_an_unknown_part_is_one_line():
    with pytest.raises(ProtocolError, match=r"TRAINER_PARTS names \['norm'\]; there are grad_norm, tokens"):
        _ = lean(None, ("norm",)).trainer_parts
