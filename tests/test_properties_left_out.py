"""The command that takes a mutant out of the table: how what is said without it is judged."""

from dataclasses import replace

import pytest

from fixtures.diagnosis_words import Place
from fixtures.external.answer import Verdict
from fixtures.mutants import MUTANTS
from properties import left_out
from properties.diagnosis import Diagnosis
from properties.left_out import LeftOut, judged, places_of
from reference.rules import RULES

AHEAD = MUTANTS["opt_t_one_ahead"]


def test_a_mutant_without_itself_is_not_named():
    one = left_out.left_out(MUTANTS["opt_squares_averaged_over_the_tensor"])
    assert one.rule == "OPT-01"
    assert "opt_squares_averaged_over_the_tensor" not in one.said
    assert one.verdict in (Verdict.LOCALISED, Verdict.SILENT)


def test_another_mistake_is_wrong_and_its_twin_is_right():
    """No decay of any tensor is no decay at all, in every example; another count of updates is not."""
    other, same = MUTANTS["opt_t_counted_twice"], AHEAD
    assert judged(Diagnosis(mutants=(other,)), AHEAD, seed=1) == Verdict.WRONG
    assert judged(Diagnosis(mutants=(other, same)), MUTANTS["opt_no_eps"], seed=1) == Verdict.WRONG
    assert judged(Diagnosis(), AHEAD, seed=1) == Verdict.SILENT


def test_a_place_is_judged_by_the_rules():
    assert judged(Diagnosis(place=Place.STEP_COUNT), AHEAD, seed=1) == Verdict.LOCALISED
    assert judged(Diagnosis(place=Place.LOSS), AHEAD, seed=1) == Verdict.WRONG


def test_every_rule_of_numbers_that_a_mutant_breaks_has_places():
    parts_around_a_loop = {"COLL", "WORK", "SPLIT", "LAST", "EXP", "AUTO", "RECOMP"}
    parts_around_a_loop |= {"BPB", "SAMP", "CORE", "FLOP", "SPEED", "COST", "PROF"}
    of_the_objective = {"OBJ", "CAP", "IGN", "RED", "WIN", "COUNT"}
    steers_a_run = {"BEST", "EVENT", "AVG", "PROG", "SCALE", "AUTO", "RECOMP", "SPIKE", "BATCH"}
    outside = {
        "SUBJ",
        "TOK",
        "NGRAM",
        "INV",
        "MIX",
        "MUON",
        "GROUP",
        *parts_around_a_loop,
        *steers_a_run,
        *of_the_objective,
    }  # there is no chain of quantities to place it in
    broken = {rule for mutant in MUTANTS.values() for rule in mutant.rules}
    assert {RULES[rule].family for rule in broken if not places_of(rule)} <= outside
    assert {key for key in left_out.PLACES if key not in RULES} <= {rule.family for rule in RULES.values()}


def test_counts_are_of_what_was_refused():
    right = LeftOut("opt_no_eps", "OPT-01", "epsilon = 0", Verdict.RIGHT)
    wrong = replace(right, verdict=Verdict.WRONG, said="something else")
    counts = left_out.summary([right, wrong, replace(right, rule=None, verdict=Verdict.SILENT)])
    assert (counts["left out"], counts["diagnosed"], counts["right"], counts["wrong"]) == (3, 2, 1, 1)
    assert counts["said wrongly"] == {"opt_no_eps": "something else"}


def test_the_sample_is_a_function_of_the_seed():
    assert left_out.sampled(0) == left_out.sampled(0) != left_out.sampled(1)
    assert len(set(left_out.sampled(0))) == left_out.SAMPLE


def test_an_unknown_mutant_is_one_line(capsys):
    with pytest.raises(SystemExit):
        left_out.main(["no_such_mutant"])
    assert capsys.readouterr().err.strip().endswith("no mutant no_such_mutant")
