"""What is the same argument in another form gives the same result: its place in memory, the type of its integers.

Results are compared with the subject's own for a contiguous copy: both may be off by the bound of the oracle, so twice
that is allowed between them. What is wrong in every form is another rule's.
"""

import functools
from dataclasses import replace

import numpy as np
import pytest

from fixtures.explicit_cases import loss_case
from fixtures.handed_over import INTEGERS, LAYOUTS, repeated
from fixtures.strategies import in_single
from fixtures.subjects import reference
from properties.assertions import same_bytes, simulate, within
from properties.checks import checks
from properties.dtypes import to
from properties.test_contract import sample_calls
from reference import bounds, loss_bounds
from reference.arithmetic import unit_roundoff
from reference.bounds import Bounded, map_arrays, named_arrays
from reference.training_loss import bounded_training_loss

EXACT = frozenset({"round_weights", "make_batch", "sample_batch"})
"""Functions whose results are equal byte for byte."""
WHOLE_MODEL = frozenset({"forward", "loss_and_gradients"})
ATTENTION = frozenset({"attention", "attention_backward"})
INTEGER_ARGUMENTS = frozenset({"cross_entropy", "forward", "loss_and_gradients"}) | {
    "training_loss",
    "ignoring_cross_entropy",
}
"""Functions that take ids."""
MANY = loss_case(1, 600, 120)
MANY_IDS = MANY.logits, MANY.targets, MANY.loss_mask
"""Ids that fit into a byte, at places that do not fit into 16 bits."""
every_function = pytest.mark.parametrize("name", sorted(sample_calls()))


@functools.cache
def oracle_of(name, conventions):
    """The oracle of a function as a subject with these conventions computes it."""
    if name in ATTENTION:  # the bound of a sum with -1e9 says nothing, though nothing of it is left
        conventions = replace(conventions, mask="select")
    return reference.functions(conventions)[name]


def single(name, conventions):
    """(arguments, keywords) of the sample call, of numbers that single precision holds.

    Where an attention that adds its mask is declared, every position sees the first key.
    """
    _, args, kwargs = sample_calls()[name]
    if name in ATTENTION and conventions.mask == "additive":
        args = tuple(x | (np.arange(x.shape[1]) == 0) if x.dtype == bool else x for x in args)
    return laid_out(lambda x: in_single(x) if x.dtype.kind == "f" else x, args), kwargs


@functools.cache
def simulated(name, conventions, layout):
    """What a whole model must give for the sample call in this layout, for either dtype."""
    args, _ = single(name, conventions)
    return simulate(oracle_of(name, conventions), *(laid_out(layout, args) if layout else args))


def expected(subject, name, args, kwargs, dtype, layout=None):
    """The subject's own result for arrays in C order and ids of 64 bits, and how far another form of it may be."""
    own = subject.find(name)(*(c_order(x) for x in to(dtype, args)), **kwargs)
    allowed = correct(subject, name, args, kwargs, dtype, layout)
    return map_arrays(
        lambda x, right: Bounded(np.asarray(x, dtype=np.float64), 2.0 * right.bound), own, allowed
    )


def c_order(x):
    """A contiguous copy of an array."""
    return np.array(x, order="C") if isinstance(x, np.ndarray) else x


def correct(subject, name, args, kwargs, dtype, layout=None):
    """The result with its bounds; of dropout the subject's own, which may use a generator of its own."""
    oracle = oracle_of(name, subject.conventions)
    if name == "cross_entropy":
        return loss_bounds.cross_entropy(*args, dtype=dtype)
    if name == "training_loss":
        return bounded_training_loss(*args, dtype=dtype, scalars=subject.conventions.scalars, **kwargs)
    if name in WHOLE_MODEL:
        return map_arrays(lambda x: x.bounded(dtype), simulated(name, subject.conventions, layout))
    if name == "dropout":
        own = np.asarray(subject.dropout(*to(dtype, args)), dtype=np.float64)
        return Bounded(own, 4.0 * unit_roundoff(dtype) * np.abs(own))
    return bounds.worst_case(oracle, *args, dtype=dtype, scalars=subject.conventions.scalars, **kwargs)


def laid_out(layout, arguments):
    """Every array of the arguments in this layout."""
    return map_arrays(lambda x: layout(x) if isinstance(x, np.ndarray) else x, arguments)


def expected_bytes(subject, name, args, kwargs, dtype, layout=None):
    """The subject's own results for arrays in C order, which are equal byte for byte, by their place."""
    return dict(named_arrays(subject.find(name)(*(c_order(x) for x in to(dtype, args)), **kwargs)))


def compare(rule, subject, name, given, kwargs, wanted, dtype):
    """Call with `given` and compare with `wanted`."""
    got = subject.find(name)(*given, **kwargs)
    if name in EXACT:
        for part, x in named_arrays(got):
            same_bytes(rule, x, wanted[part], f"{name}{part}")
    else:
        within(rule, got, wanted, dtype)


@checks("SUBJ-11")
@every_function
def test_it_does_not_matter_how_an_array_lies_in_memory(subject, dtype, name):
    args, kwargs = single(name, subject.conventions)
    find = expected_bytes if name in EXACT else expected
    as_given, as_repeated = find(subject, name, args, kwargs, dtype), None
    for layout in LAYOUTS.values():
        given = laid_out(layout, to(dtype, args))
        if layout is repeated:
            as_repeated = find(subject, name, laid_out(layout, args), kwargs, dtype, layout)
        compare("SUBJ-11", subject, name, given, kwargs, as_repeated or as_given, dtype)


@checks("SUBJ-12")
@pytest.mark.parametrize("name", sorted(INTEGER_ARGUMENTS))
def test_ids_may_be_integers_of_any_type(subject, dtype, name):
    args, kwargs = (MANY_IDS, {}) if name == "cross_entropy" else single(name, subject.conventions)
    wanted = expected(subject, name, args, kwargs, dtype)
    for kind in INTEGERS:
        given = laid_out(lambda x, kind=kind: x.astype(kind) if x.dtype.kind == "i" else x, to(dtype, args))
        compare("SUBJ-12", subject, name, given, kwargs, wanted, dtype)
