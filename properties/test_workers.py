"""The random numbers of the workers of a data loader."""

import random
from typing import Any

import numpy as np

from fixtures.parts_strategies import neighbours
from fixtures.strategies import seeds
from properties.assertions import holds, same_bytes
from properties.checks import checks

NUMBERS, RUN = 64, 4
"""Numbers asked of a stream, and how many in a row must not occur in another: of 24 random bits, never by chance."""
EDGES = [(seed, epoch, worker) for seed in (0, 2**63, 2**64 - 1) for epoch in (0, 1) for worker in (0, 1)]
"""Seeds at the edges of their range; 0, which is no seed for some."""


def stream(subject, triple):
    """The numbers of a worker, as an array."""
    return np.array(subject.worker_stream(*triple, NUMBERS))


@checks("WORK-01", triples=neighbours(), other=seeds)
def test_the_numbers_are_a_function_of_seed_epoch_and_worker(subject, triples, other):
    """Again, after the others, and after the global generators were seeded with something else."""
    first = [stream(subject, triple) for triple in triples]
    before = random.getstate(), np.random.get_state()  # noqa: NPY002  (the global generator is what is tested)
    random.seed(other)
    np.random.seed(other)  # noqa: NPY002
    try:
        again = [stream(subject, triple) for triple in triples[::-1]][::-1]
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
    for triple, a, b in zip(triples, first, again, strict=True):
        holds(
            "WORK-01", a.shape == (NUMBERS,), f"worker_stream{triple}: shape {a.shape}, {NUMBERS} were asked"
        )
        same_bytes("WORK-01", b, a, f"worker_stream{triple}, asked again")


@checks("WORK-02", triples=neighbours(), always=[{"triples": EDGES}])
def test_no_two_streams_are_alike(subject, triples):
    """No run of numbers is in two streams, at whatever place, or twice in one."""
    seen: dict[Any, Any] = {}
    for triple in triples:
        numbers = stream(subject, triple).tolist()
        for k in range(NUMBERS - RUN + 1):
            run = tuple(numbers[k : k + RUN])
            found = f"seed, epoch, worker = {seen.get(run)} and {triple} have the numbers {run[:2]}... both"
            holds("WORK-02", run not in seen, found)
            seen[run] = triple
