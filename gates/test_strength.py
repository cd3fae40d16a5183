"""Gate 9. The properties are worth something: they kill mutants, others each session, by the rules that name them."""

import pytest

from gates.judge import strength

A_DOZEN = 12


@pytest.mark.needs("strength")
def test_mutants_are_killed_by_the_rules_that_name_them(accept, runs):
    accept(strength.kills(runs["strength"], A_DOZEN))


@pytest.mark.needs("control/harmless_mutant")
def test_refuses_a_mutant_that_nothing_kills(refuse, runs):
    refuse("harmless_mutant", strength.kills(runs["control/harmless_mutant"], 1))
