"""Limits of statistical checks: a correct subject exceeds one with a probability of at most `CHANCE`."""

import math

CHANCE = 1e-9
"""Probability of a false alarm in one check."""


def deviation_limit(draws: int) -> float:
    """The d with 2 exp(-2 n d^2) = `CHANCE` for n independent draws.

    Hoeffding, 1963: the share of the draws that have a property of probability p is further than d from p with at most
    this probability. Dvoretzky, Kiefer, Wolfowitz, with the constant of Massart, 1990: so is the empirical
    distribution function, anywhere, from the true one.
    """
    return math.sqrt(math.log(2.0 / CHANCE) / (2.0 * draws))
