"""Centred accuracy, the choice among options, and the examples before a question."""

import numpy as np
from hypothesis import strategies as st

from fixtures.evaluation_strategies import options_of_questions, tasks
from fixtures.strategies import run_seeds
from honestloop.guard import Misbehaviour
from properties.assertions import agrees, holds, refuse
from properties.checks import checks
from reference import centred_accuracy as oracle


@checks("CORE-01", tasks=tasks)
def test_accuracy_is_centred_and_tasks_are_averaged(subject, tasks):
    got = subject.centered_accuracy(tasks)
    agrees("CORE-01", got, oracle.centered_accuracy, tasks, dtype=np.float64)


@checks("CORE-02", losses=options_of_questions, normalise=st.booleans())
def test_the_option_of_the_lowest_loss_is_chosen(subject, losses, normalise):
    got, expected = (f(losses, normalise) for f in (subject.choose_option, oracle.choose_option))
    holds("CORE-02", got == expected, f"choose_option({losses}, {normalise}) is {got}, expected {expected}")


@checks(
    "CORE-03",
    n=st.integers(1, 12),
    item=st.integers(0, 11),
    shots=st.integers(0, 12),
    seed=run_seeds,
    always=[{"n": n, "item": 0, "shots": 10, "seed": 1234} for n in (1, 2, 11)],
)
def test_examples_are_others_and_drawn_by_seed_and_item(subject, n, item, shots, seed):
    item %= n
    got = shown(subject, n, item, shots, seed)
    said = f"few_shot({n}, {item}, {shots}, {seed}) is {got}"
    wanted = min(shots, n - 1)
    holds("CORE-03", len(got) == wanted, f"{said}: {wanted} of {n - 1} others were to be shown")
    holds("CORE-03", len(set(got)) == len(got), f"{said}: an example is there twice")
    holds("CORE-03", item not in got, f"{said}: the question itself is among the examples")
    holds("CORE-03", all(0 <= k < n for k in got), f"{said}: a number is out of range")
    shown(subject, n, (item + 1) % n, shots, seed)
    again = shown(subject, n, item, shots, seed)
    holds("CORE-03", again == got, f"{said}, and {again} when it is asked again after another")


def shown(subject, *args):
    """The numbers of the examples; an exception breaks the rule."""
    try:
        return [int(k) for k in subject.few_shot(*args)]
    except Misbehaviour as error:
        refuse("CORE-03", f"few_shot{args} {error.found}", function="few_shot")


@checks("CORE-03", floor=1, seed=run_seeds)
def test_seed_and_item_choose_the_examples(subject, seed):
    """The order of 32 of 64 others: the same for two of these with a probability below 64^-16."""
    drawn = [(seed, 0), ((seed + 1) % 2**64, 0), (seed, 1)]
    orders = [tuple(shown(subject, 65, item, 32, s)) for s, item in drawn]
    holds("CORE-03", len(set(orders)) == 3, f"few_shot of seeds and items {drawn} is the same for two")
