"""Operations of a token, and the share of a device's peak that they are."""

import numpy as np
from hypothesis import strategies as st

from properties.assertions import agrees, holds, not_offered
from properties.checks import checks
from reference import flops as oracle
from reference.model import DEFAULT_CONFIG


@st.composite
def configs(draw, windows=False):
    """Settings of a model, each size different from the others; with windows, one a layer."""
    heads = draw(st.integers(1, 4))
    sizes = {"d_model": 2 * heads * draw(st.integers(1, 6)), "n_heads": heads}
    sizes |= {"n_layers": draw(st.integers(1, 4)), "d_ff": draw(st.integers(1, 70))}
    sizes |= {"vocab_size": draw(st.integers(2, 90)), "context": draw(st.integers(2, 40))}
    if windows:
        one = st.integers(1, sizes["context"] + 3)
        layers = sizes["n_layers"]
        sizes["windows"] = draw(st.lists(one, min_size=layers, max_size=layers))
    return {**DEFAULT_CONFIG, **sizes}


def counted(subject, rule, config):
    """The subject's number is that of the declared formula, exactly."""
    declared = subject.conventions
    expected = oracle.flops_per_token(config, declared.flops, declared.flops_window)
    got = subject.flops_per_token(config)
    holds(
        rule, got == expected, f"flops_per_token({config}) is {got}, expected {expected} ({declared.flops})"
    )


@checks("FLOP-01", config=configs(), always=[{"config": dict(DEFAULT_CONFIG)}])
def test_operations_follow_the_declared_formula(subject, config):
    counted(subject, "FLOP-01", config)


@checks("FLOP-02", config=configs(windows=True))
def test_a_window_is_counted_with_the_keys_that_it_sees(subject, config):
    if subject.conventions.flops != "matrices":
        not_offered("the declared formula knows no windows")
    counted(subject, "FLOP-02", config)


@checks(
    "FLOP-03",
    flops=st.integers(1, 10**12),
    tokens=st.integers(1, 2**21),
    seconds=st.sampled_from([0.0625, 0.3, 1.0, 40.0]),
    peak=st.sampled_from([1e9, 312e12, 989.5e12]),
    devices=st.integers(1, 8),
)
def test_utilisation_is_of_the_peak_of_all_devices(subject, flops, tokens, seconds, peak, devices):
    args = flops, tokens, seconds, peak, devices
    agrees("FLOP-03", subject.mfu(*args), oracle.mfu, *args, dtype=np.float64)
    unknown = subject.mfu(flops, tokens, seconds, None, devices)
    holds("FLOP-03", unknown is None, f"the share of an unknown peak is {unknown}, expected None")
