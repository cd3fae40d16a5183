"""How the losses of an update become one number, and how much each token weighs; steps, tokens and epochs."""

import numpy as np
from hypothesis import strategies as st

from fixtures.objective_strategies import COUNTED, LOSSES_OF_UPDATES, counting_cases, losses_cases
from properties.assertions import agrees, holds, not_offered, same_bytes, within
from properties.checks import checks
from properties.dtypes import to
from reference import reduction as law
from reference.arithmetic import DOUBLE
from reference.bounds import Bounded, worst_case
from reference.progress_counters import progress_counters


@checks("RED-01", case=losses_cases(), always=LOSSES_OF_UPDATES)
def test_the_loss_of_an_update_is_the_declared_mean(subject, dtype, case):
    got = subject.accumulated_loss(to(dtype, case.losses), case.masks)
    declared = subject.conventions.reduction
    agrees("RED-01", got, law.accumulated_loss, case.losses, case.masks, dtype=dtype, reduction=declared)


@checks(
    "RED-02", case=losses_cases(), cut=st.integers(0, 3), always=[x | {"cut": 1} for x in LOSSES_OF_UPDATES]
)
def test_no_cut_into_micro_batches_changes_a_weight(subject, dtype, case, cut):
    """The last micro-batches, each cut into its rows: the same tokens, in the same order."""
    if subject.conventions.reduction != "tokens":
        not_offered("another reduction than the mean of the tokens is declared")
    apart = [
        [x for i, whole in enumerate(arrays) for x in ([whole] if i < cut else np.split(whole, len(whole)))]
        for arrays in (case.losses, case.masks)
    ]
    loss, weights = subject.accumulated_loss(to(dtype, apart[0]), apart[1])
    flat = np.concatenate([np.ravel(x) for x in weights])
    mean, parts = worst_case(law.accumulated_loss, case.losses, case.masks, dtype=dtype)
    wanted = [np.concatenate([getattr(x, part).ravel() for x in parts]) for part in ("value", "bound")]
    within("RED-02", (loss, flat), (mean, Bounded(*wanted)), dtype)


@checks("RED-03", case=losses_cases(), poison=st.sampled_from([np.inf, np.nan, -np.inf]))
def test_the_loss_of_a_masked_token_changes_nothing(subject, dtype, case, poison):
    poisoned = [np.where(mask, x, poison) for x, mask in zip(case.losses, case.masks, strict=True)]
    before = subject.accumulated_loss(to(dtype, case.losses), case.masks)
    after = subject.accumulated_loss(to(dtype, poisoned), case.masks)
    same_bytes("RED-03", np.float64(after[0]), np.float64(before[0]), f"loss with {poison} at masked tokens")


@checks("COUNT-01", case=counting_cases(), always=COUNTED)
def test_steps_are_updates_and_tokens_are_those_of_the_updates(subject, case):
    got, wanted = counted(subject, case)
    holds("COUNT-01", len(got) == len(wanted), f"{len(got)} updates, expected {len(wanted)}")
    for (step, tokens, _), law_of in zip(got, wanted, strict=True):
        said = f"step {step} and {tokens} tokens, expected {law_of[0]} and {law_of[1]}"
        holds("COUNT-01", (step, tokens) == law_of[:2], said)


@checks("COUNT-02", case=counting_cases(), always=COUNTED)
def test_an_epoch_is_the_share_of_the_data_given_out(subject, case):
    got, wanted = counted(subject, case)
    holds("COUNT-02", len(got) == len(wanted), f"{len(got)} updates, expected {len(wanted)}")
    for (_, _, epoch), (_, _, law_of) in zip(got, wanted, strict=True):
        bound = 4.0 * DOUBLE * law_of  # a quotient, and a sum with the number of whole passes
        within("COUNT-02", np.float64(epoch), Bounded(np.array(law_of), np.array(bound)), np.float64)


def counted(subject, case):
    """(step, tokens, epoch) after each update: the subject's and the law's."""
    declared = subject.conventions
    how = {"leftover": declared.leftover, "empty_window": declared.empty_window}
    got = subject.progress_counters([list(x) for x in case.epochs], case.accumulate)
    return [tuple(x) for x in got], progress_counters(case.epochs, case.accumulate, **how)
