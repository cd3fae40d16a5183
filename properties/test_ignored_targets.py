"""Targets that say themselves what is not predicted, by a number that is declared."""

import numpy as np
from hypothesis import strategies as st

from fixtures.objective_strategies import IGNORED, ignored_cases
from fixtures.strategies import generators
from properties.assertions import holds, same_bytes, unsigned, within
from properties.checks import checks
from properties.dtypes import to
from reference.loss_bounds import cross_entropy

PERMUTED = 0.0
POISONS = (np.inf, np.nan, -np.inf, 1e30, PERMUTED)
"""What takes the place of ignored logits; PERMUTED stands for themselves in another order."""


def bounded(case, dtype):
    """(loss, gradient) of the oracle, with bounds."""
    predicted = case.targets != case.ignore_index
    return cross_entropy(case.logits, np.where(predicted, case.targets, 0), predicted, dtype=dtype)


@checks("IGN-01", case=ignored_cases(), always=IGNORED)
def test_the_mean_is_over_the_targets_that_are_not_ignored(subject, dtype, case):
    got = subject.ignoring_cross_entropy(to(dtype, case.logits), case.targets, case.ignore_index)
    within("IGN-01", got, bounded(case, dtype), dtype)


@checks("IGN-02", case=ignored_cases(), seed=generators, poison=st.sampled_from(POISONS))
def test_ignored_logits_change_nothing(subject, dtype, case, seed, poison):
    ignored = case.targets == case.ignore_index
    logits = case.logits.copy()
    logits[ignored] = seed.permuted(logits[ignored], axis=-1) if poison == PERMUTED else poison
    before = subject.ignoring_cross_entropy(to(dtype, case.logits), case.targets, case.ignore_index)
    after = subject.ignoring_cross_entropy(to(dtype, logits), case.targets, case.ignore_index)
    same_bytes("IGN-02", np.float64(after[0]), np.float64(before[0]), "loss with other ignored logits")
    if np.all(
        np.isfinite(logits)
    ):  # autograd of a softmax of infinities is NaN in the row itself, in every library
        same_bytes("IGN-02", unsigned(after[1]), unsigned(before[1]), "gradient with other ignored logits")
    holds("IGN-02", not np.any(before[1][ignored]), "an ignored row has a gradient that is not 0")
