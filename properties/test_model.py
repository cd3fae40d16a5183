"""MiniGPT: its parameters, their initial values, its forward pass."""

import numpy as np
from hypothesis import strategies as st

from fixtures.explicit_cases import SEEDS
from fixtures.strategies import generators, model_cases, run_seeds
from properties.assertions import holds, same_bytes, simulate, within_in_each_dtype
from properties.chance import deviation_limit
from properties.checks import checks
from properties.dtypes import to
from reference import model
from reference.activation import normal_cdf


def forward_arguments(case):
    """The arguments of `forward`."""
    return case.params, case.tokens, case.key_mask, case.config


@checks("MODEL-01")
def test_the_locked_model_has_103680_parameters(subject):
    got = subject.initial_parameters(0, dict(model.DEFAULT_CONFIG))
    total = sum(x.size for x in got.values())
    holds("MODEL-01", total == 103_680, f"got {total} parameters, expected 103,680")


@checks("MODEL-01", case=model_cases(), seed=run_seeds)
def test_parameters_have_the_locked_names_and_shapes(subject, case, seed):
    got = {name: x.shape for name, x in subject.initial_parameters(seed, case.config).items()}
    expected = model.parameter_shapes(case.config)
    wrong = {n for n in got.keys() | expected.keys() if got.get(n) != expected.get(n)}
    holds("MODEL-01", not wrong, f"different: {[(n, got.get(n), expected.get(n)) for n in sorted(wrong)]}")


@checks("MODEL-02", seed=run_seeds)
def test_first_values_follow_their_law(subject, seed):
    """Zeros and ones exactly; matrices by their empirical distribution (Dvoretzky, Kiefer and Wolfowitz)."""
    for name, x in subject.initial_parameters(seed, dict(model.DEFAULT_CONFIG)).items():
        law = model.initial_law(name)
        if law == "normal":
            holds("MODEL-02", *is_normal(name, x, model.INITIAL_DEVIATION))
        else:
            holds("MODEL-02", np.all(x == (law == "ones")), f"{name} does not start as {law}")


def is_normal(name, x, deviation):
    """(whether the entries may be draws of N(0, deviation^2), what was found)."""
    n = x.size
    ordered = np.sort(np.asarray(x, dtype=np.float64).reshape(-1)) / deviation
    distribution = normal_cdf(ordered)
    steps = np.arange(n + 1) / n
    gap = max(np.max(steps[1:] - distribution), np.max(distribution - steps[:-1]))
    limit = deviation_limit(n)
    found = f"mean {np.mean(x):.2e}, deviation {np.std(x):.4f}"
    return gap <= limit, f"{name}: {found}; distance from N(0, {deviation}^2) {gap:.3f}, at most {limit:.3f}"


@checks(
    "MODEL-03", seed=run_seeds, other=run_seeds, always=[{"seed": seed, "other": 7} for seed in SEEDS[::3]]
)
def test_first_values_are_a_function_of_the_seed(subject, seed, other):
    config = dict(model.DEFAULT_CONFIG)
    first, again = subject.initial_parameters(seed, config), subject.initial_parameters(seed, config)
    for name in first:
        same_bytes("MODEL-03", again[name], first[name], f"{name}, drawn again")
    matrices = [x for x in first.values() if x.ndim == 2]
    matrices += [
        x for x in subject.initial_parameters(other, config).values() if x.ndim == 2 and other != seed
    ]
    if subject.conventions.seeds == "64 bits":
        far = subject.initial_parameters((seed + 2**32) % 2**64, config)
        matrices += [x for x in far.values() if x.ndim == 2]
    starts = {x[0, :8].tobytes() for x in matrices}
    holds("MODEL-03", len(starts) == len(matrices), "two matrices, or two seeds, start with the same draws")


@checks("MODEL-04", case=model_cases())
def test_logits_are_those_of_the_formula(subject, case):
    args = forward_arguments(case)
    simulated = simulate(model.forward, *args)
    within_in_each_dtype("MODEL-04", subject, lambda dtype: subject.forward(*to(dtype, *args)), simulated)


@checks("MODEL-05", case=model_cases(), seed=generators, cut=st.integers(0, 5))
def test_later_tokens_change_no_earlier_logit(subject, dtype, case, seed, cut):
    tokens = case.tokens.copy()
    tokens[:, cut + 1 :] = seed.integers(0, case.config["vocab_size"], tokens[:, cut + 1 :].shape)
    before = subject.forward(*to(dtype, *forward_arguments(case)))
    after = subject.forward(*to(dtype, case.params, tokens, case.key_mask, case.config))
    same_bytes("MODEL-05", after[:, : cut + 1], before[:, : cut + 1], f"logits up to position {cut}")


@checks("MODEL-06", case=model_cases(), seed=generators, in_front=st.booleans())
def test_padding_changes_no_real_logit(subject, dtype, case, seed, in_front):
    """Half of the cases pad on the left, where the causal mask does not hide the padding from real positions."""
    tokens, real = case.tokens.copy(), case.key_mask.copy()
    real[:, : int(in_front)] = False
    tokens[~real] = seed.integers(0, case.config["vocab_size"], tokens[~real].shape)
    before = subject.forward(*to(dtype, case.params, case.tokens, real, case.config))
    after = subject.forward(*to(dtype, case.params, tokens, real, case.config))
    same_bytes("MODEL-06", after[real], before[real], "logits at real positions with other padding")


@checks("MODEL-07", case=model_cases(), seed=generators, row=st.integers(0, 2))
def test_rows_do_not_influence_each_other(subject, dtype, case, seed, row):
    row = min(row, len(case.tokens) - 1)
    others = np.arange(len(case.tokens)) != row
    tokens, key_mask = case.tokens.copy(), case.key_mask.copy()
    tokens[others] = seed.integers(0, case.config["vocab_size"], tokens[others].shape)
    key_mask[others] = seed.random(key_mask[others].shape) < 0.7
    before = subject.forward(*to(dtype, *forward_arguments(case)))
    after = subject.forward(*to(dtype, case.params, tokens, key_mask, case.config))
    same_bytes("MODEL-07", after[row], before[row], f"logits of row {row} with other rows around it")
