"""Gradients of the whole model's loss."""

import numpy as np
from hypothesis import strategies as st

from fixtures.strategies import generators, model_cases, model_parameters
from properties.assertions import holds, same_bytes, simulate, unsigned, within_in_each_dtype
from properties.checks import checks
from properties.dtypes import to
from reference import gradients, model


@checks("GRAD-01", case=model_cases())
def test_gradients_are_those_of_the_loss(subject, case):
    args = case.params, *case.batch, case.config
    simulated = simulate(gradients.loss_and_gradients, *args)
    within_in_each_dtype(
        "GRAD-01", subject, lambda dtype: subject.loss_and_gradients(*to(dtype, *args)), simulated
    )


@checks("GRAD-01")
def test_gradients_of_the_locked_model(subject):
    """One batch of the size that is trained, so that kernels meet whole and partial tiles as in training."""
    config = dict(model.DEFAULT_CONFIG)
    rng = np.random.default_rng(18)
    tokens, targets = rng.integers(0, 64, (2, 5, 27))
    real = np.arange(27) < np.array([[27], [3], [16], [0], [22]])
    args = model_parameters(rng, config, 0.1), tokens, targets, real, real, config
    simulated = simulate(gradients.loss_and_gradients, *args)
    within_in_each_dtype(
        "GRAD-01", subject, lambda dtype: subject.loss_and_gradients(*to(dtype, *args)), simulated
    )


@checks("GRAD-02", case=model_cases())
def test_nothing_to_predict_gives_no_gradient(subject, dtype, case):
    tokens, targets, loss_mask, key_mask = case.batch
    nothing = np.zeros_like(loss_mask)
    args = case.params, tokens, targets, nothing, key_mask, case.config
    loss, grads = subject.loss_and_gradients(*to(dtype, *args))
    holds("GRAD-02", float(loss) == 0.0, f"got a loss of {loss} for an all-masked batch, expected 0")
    for name, gradient in grads.items():
        holds("GRAD-02", not gradient.any(), f"the gradient of {name} is not 0 for an all-masked batch")


@checks("GRAD-03", case=model_cases(), seed=generators)
def test_masked_targets_and_padding_change_no_gradient(subject, dtype, case, seed):
    """Padding is on the right and never predicted, as in a batch of make_batch."""
    tokens, targets, loss_mask, key_mask = (x.copy() for x in case.batch)
    key_mask = np.logical_and.accumulate(key_mask, axis=1)
    loss_mask &= key_mask
    vocab = case.config["vocab_size"]
    before = subject.loss_and_gradients(
        *to(dtype, case.params, tokens, targets, loss_mask, key_mask, case.config)
    )
    targets[~loss_mask] = seed.integers(0, vocab, targets[~loss_mask].shape)
    after = subject.loss_and_gradients(
        *to(dtype, case.params, tokens, targets, loss_mask, key_mask, case.config)
    )
    same_bytes("GRAD-03", np.float64(after[0]), np.float64(before[0]), "loss with other masked targets")
    for name in before[1]:
        found = f"gradient of {name} with other masked targets"
        same_bytes("GRAD-03", unsigned(after[1][name]), unsigned(before[1][name]), found)
    tokens[~key_mask] = seed.integers(0, vocab, tokens[~key_mask].shape)
    after = subject.loss_and_gradients(
        *to(dtype, case.params, tokens, targets, loss_mask, key_mask, case.config)
    )
    for name in before[1]:
        holds("GRAD-03", np.array_equal(after[1][name], before[1][name]), f"{name} with other padding tokens")


@checks("GRAD-04", case=model_cases(), cut=st.integers(0, 3))
def test_micro_batches_weighted_by_tokens_add_up(subject, case, cut):
    """Gradients of two micro-batches, weighted by their tokens, against the oracle's gradient of the whole batch."""
    tokens = max(int(case.loss_mask.sum()), 1)

    def in_two_parts(dtype):
        total = {name: np.zeros(x.shape) for name, x in case.params.items()}
        for rows in (slice(cut), slice(cut, None)):
            part = [x[rows] for x in case.batch]
            if len(part[0]):
                _, grads = subject.loss_and_gradients(*to(dtype, case.params, *part, case.config))
                for name in total:
                    total[name] += int(part[2].sum()) / tokens * np.asarray(grads[name], dtype=np.float64)
        return total

    simulated = simulate(gradients.loss_and_gradients, case.params, *case.batch, case.config)
    within_in_each_dtype("GRAD-04", subject, in_two_parts, simulated[1])
