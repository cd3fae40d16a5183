"""Activation checkpointing: recomputing what the blocks did changes no gradient."""

import numpy as np
from hypothesis import strategies as st

from fixtures.strategies import model_cases, model_parameters, run_seeds
from properties.assertions import holds, same_bytes
from properties.checks import checks
from properties.dtypes import either, to
from reference.model import DEFAULT_CONFIG


def deeper(layers, seed=3):
    """A model of so many small blocks with a batch of rows of several lengths."""
    config = dict(DEFAULT_CONFIG) | {
        "d_model": 8,
        "n_heads": 2,
        "n_layers": layers,
        "d_ff": 12,
        "vocab_size": 9,
    }
    rng = np.random.default_rng(seed)
    tokens, targets = rng.integers(0, 9, (2, 3, 6))
    real = np.arange(6) < np.array([[6], [2], [4]])
    return config, model_parameters(rng, config, 0.4), (tokens, targets, real, real)


def both(subject, dtype, model, p, seed, step):
    """What the subject finds without and with recomputation."""
    config, params, batch = model
    given = to(dtype, params), *batch, config
    return [subject.recomputed_gradients(*given, recompute, p, seed, step) for recompute in (False, True)]


def same_gradients(rule, plain, again, how):
    """Loss and every gradient, bit for bit."""
    same_bytes(rule, np.float64(again[0]), np.float64(plain[0]), f"the loss with recomputation, {how}")
    holds(rule, again[1].keys() == plain[1].keys(), f"other gradients: {sorted(again[1])}, {how}")
    for name, g in plain[1].items():
        same_bytes(rule, again[1][name], g, f"the gradient of {name} with recomputation, {how}")


def predicting(case):
    """The model of a case; something is predicted."""
    loss_mask = case.loss_mask.copy()
    loss_mask[0, -1] = True
    return case.config, case.params, (case.tokens, case.targets, loss_mask, case.key_mask)


@checks("RECOMP-01", case=model_cases(), seed=run_seeds)
def test_recomputation_changes_no_gradient(subject, case, seed):
    plain, again = both(subject, either(subject, seed), predicting(case), 0.0, seed, 0)
    same_gradients("RECOMP-01", plain, again, "without dropout")


@checks("RECOMP-01")
def test_recomputation_of_four_blocks_changes_no_gradient(subject, dtype):
    plain, again = both(subject, dtype, deeper(4), 0.0, 0, 0)
    same_gradients("RECOMP-01", plain, again, "four blocks")


@checks("RECOMP-02", case=model_cases(), seed=run_seeds, step=st.integers(0, 2**20))
def test_a_recomputed_block_drops_what_it_dropped(subject, case, seed, step):
    """Beside it: dropout does something, or this would hold of a model without any."""
    dtype, model = either(subject, seed), predicting(case)
    plain, again = both(subject, dtype, model, 0.5, seed, step)
    same_gradients("RECOMP-02", plain, again, "with dropout of 0.5")
    whole = both(subject, dtype, deeper(2), 0.0, seed, step)[0]
    dropped = both(subject, dtype, deeper(2), 0.5, seed, step)
    same_gradients("RECOMP-02", dropped[0], dropped[1], "two blocks with dropout of 0.5")
    holds("RECOMP-02", float(whole[0]) != float(dropped[0][0]), "dropout of 0.5 does not change the loss")


@checks("RECOMP-03")
def test_every_block_is_recomputed(subject, dtype):
    for layers in (1, 2, 4):
        plain, again = both(subject, dtype, deeper(layers), 0.5, 1, 0)
        for passes, times, how in ((plain[2], 1, "without"), (again[2], 2, "with")):
            said = f"{layers} blocks {how} recomputation were computed {list(passes)} times, expected {times} each"
            holds("RECOMP-03", [int(n) for n in passes] == [times] * layers, said)
