"""AdamW, each update from the state that the subject returned before, and which parameters decay."""

import functools

import numpy as np

from fixtures.explicit_cases import OPTIMIZERS, each
from fixtures.strategies import model_cases, optimizer_cases
from properties.assertions import agrees, holds
from properties.checks import checks
from properties.dtypes import to
from reference import model, optimizer


@checks("OPT-01", case=optimizer_cases(), always=each(OPTIMIZERS))
def test_every_update_is_the_formula(subject, dtype, case):
    declared = subject.conventions
    oracle = functools.partial(optimizer.adamw_step, **declared.adamw)
    p, m, v = to(dtype, case.p, case.m, case.v)
    for t, gradient in enumerate(case.gradients, start=case.first):
        g = to(dtype, gradient)
        state = tuple(np.asarray(x, dtype=np.float64) for x in (p, g, m, v))
        p, m, v = subject.adamw_step(p, g, m, v, t=declared.step_number(t), **case.settings)
        how = {"t": t, **case.settings, "scalars": declared.scalars}
        agrees("OPT-01", (p, m, v), oracle, *state, **how, dtype=dtype)


def only_decayed(p, lr, weight_decay):
    """p (1 - lr wd), which every order of the decay gives; + 0 p allows for the rounding of p - lr wd p as well."""
    return p * (1.0 - lr * weight_decay) + 0.0 * p


@checks("OPT-02", case=optimizer_cases(), always=each(OPTIMIZERS))
def test_without_a_gradient_only_decay_acts(subject, dtype, case):
    p = to(dtype, case.p)
    m, v = np.zeros_like(p), np.zeros_like(p)
    for t in range(1, 4):
        before = np.asarray(p, dtype=np.float64)
        number = subject.conventions.step_number(t)
        p, m, v = subject.adamw_step(p, np.zeros_like(p), m, v, t=number, **case.settings)
        decay = case.settings["lr"], case.settings["weight_decay"]
        agrees("OPT-02", p, only_decayed, before, *decay, scalars=subject.conventions.scalars, dtype=dtype)
        holds("OPT-02", not m.any() and not v.any(), f"after update {t} the moments are not 0")


@checks("OPT-03", case=model_cases())
def test_matrices_decay_and_nothing_else(subject, case):
    names = list(model.parameter_shapes(case.config))
    got = list(subject.decays(names))
    law = optimizer.decays(names, subject.conventions.decayed)
    wrong = [n for n, a, b in zip(names, got, law, strict=True) if bool(a) != b]
    holds("OPT-03", not wrong, f"wrong for {wrong}")
    reversed_names = list(subject.decays(names[::-1]))
    holds("OPT-03", reversed_names == got[::-1], "the answer depends on the order of the names")
