"""An update against its replay: what it logged and every tensor it left, each as a share of its derived bound."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gates.judge.replay import After
from gates.judge.run_record import State
from reference import bounds
from reference.bounds import Agreement, Bounded

LOGGED = ("epoch", "tokens", "loss", "grad_norm", "lr")
ILL_CONDITIONED = 4.0  # the bounds are those of the law; a mistake may be a little worse conditioned


@dataclass(frozen=True)
class Comparison:
    """What an update has logged and left: name -> agreement with what it must log and leave."""

    log: Mapping[str, Agreement]
    weights: Mapping[str, Agreement]
    moments: Mapping[str, Agreement]

    @property
    def right(self) -> bool:
        """Whether every tensor is within its bound."""
        return all(a.within for a in (*self.weights.values(), *self.moments.values()))


def compare(expected: After, left: State, line: Mapping[str, Any]) -> Comparison:
    """What an update has left and logged against what it must leave and log."""
    return Comparison(
        {name: number(line.get(name), expected.log[name], name) for name in LOGGED},
        _tensors("", left.weights, expected.weights),
        _tensors("m.", left.m, expected.m) | _tensors("v.", left.v, expected.v),
    )


def behaves_like(left: State, found: After, expected: After) -> bool:
    """Whether an update has left what a mistake leaves (`found`, in plain fp64), within a few bounds of the law."""
    parts = (
        (left.weights, found.weights, expected.weights),
        (left.m, found.m, expected.m),
        (left.v, found.v, expected.v),
    )
    return all(
        bounds.compare(got[name], mistaken[name], ILL_CONDITIONED * law[name].bound).within
        for got, mistaken, law in parts
        for name in law
    )


def number(said: Any, expected: Bounded, name: str) -> Agreement:
    """A number of a log line; one that is missing agrees with nothing."""
    return bounds.compare(math.nan if said is None else said, expected.value, expected.bound, name)


def _tensors(
    prefix: str, got: Mapping[str, np.ndarray], expected: Mapping[str, Bounded]
) -> dict[str, Agreement]:
    return {
        prefix + name: bounds.compare(got[name], b.value, b.bound, prefix + name)
        for name, b in expected.items()
    }
