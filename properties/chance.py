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


def count_limit(draws: int, probability: float) -> float:
    """The t which | count - n p | exceeds with a chance of at most `CHANCE`, count being of n independent draws.

    With L = ln(2 / CHANCE): t = L / 3 + sqrt(L^2 / 9 + 2 L n p (1 - p)) solves 2 exp(-t^2 / (2 n p (1 - p) + 2 t / 3))
    = CHANCE. Bernstein's inequality (Boucheron, Lugosi, Massart, 2013, section 2.8); for a small p it is much sharper
    than Hoeffding's.
    """
    third = math.log(2.0 / CHANCE) / 3.0
    return third + math.sqrt(third * third + 6.0 * third * draws * probability * (1.0 - probability))
