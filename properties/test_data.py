"""The order of the data, and the iterator that can be stopped anywhere."""

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fixtures.protocol import fields
from fixtures.strategies import run_seeds, sequences
from properties.assertions import holds, same_bytes
from reference import data
from reference.philox import counters, philox4x32, stream_key

batch_sizes = st.integers(1, 4)
EPOCHS = 3


def visited(batch):
    """Which sequences a batch holds: their second token is 5 + number (fixtures/strategies.py)."""
    return [int(row[0]) - 5 for row in fields(batch)[1]]


def expected_batches(rows, batch_size, seed, epochs=EPOCHS):
    """(epoch, indices) of every batch of the first epochs."""
    count = epochs * -(-len(rows) // batch_size)
    return [batch for batch, _ in zip(data.batches(len(rows), batch_size, seed), range(count), strict=False)]


@given(
    n=st.integers(1, 40), seed=run_seeds, epoch=st.one_of(st.integers(0, 50), st.integers(2**32 - 1, 2**33))
)
def test_the_order_is_the_argsort_of_philox_words(subject, n, seed, epoch):
    got = subject.epoch_order(n, seed, epoch)
    holds("DATA-01", sorted(int(i) for i in got) == list(range(n)), f"not a permutation of {n}: {list(got)}")
    same_bytes("DATA-01", np.asarray(got, dtype=np.int64), data.epoch_order(n, seed, epoch), "order")


@given(seed=run_seeds, epoch=st.integers(0, 1000))
def test_epochs_and_seeds_have_their_own_order(subject, seed, epoch):
    """Two random orders of 40 sequences are equal with probability 1 / 40!."""
    order = list(subject.epoch_order(40, seed, epoch))
    holds(
        "DATA-02",
        order != list(subject.epoch_order(40, seed, epoch + 1)),
        "the next epoch has the same order",
    )
    other = list(subject.epoch_order(40, (seed + 1) % 2**64, epoch))
    holds("DATA-02", order != other, "another seed has the same order")


@given(rows=sequences(), batch_size=batch_sizes, seed=run_seeds)
def test_an_epoch_visits_every_sequence_once(subject, rows, batch_size, seed):
    iterator = subject.data_iterator(rows, batch_size, seed)
    for epoch, indices in expected_batches(rows, batch_size, seed):
        batch = iterator.next_batch()
        found = f"epoch {epoch}: got sequences {visited(batch)}, expected {[int(i) for i in indices]}"
        holds("DATA-03", visited(batch) == [int(i) for i in indices], found)
        holds("DATA-03", iterator.epoch == epoch, f"epoch {iterator.epoch} after a batch of epoch {epoch}")
        expected = data.make_batch([rows[i] for i in indices])
        for got, wanted, name in zip(
            fields(batch), expected, ("input", "target", "loss", "key"), strict=True
        ):
            same_bytes("DATA-03", got, wanted, f"{name} of the batch")


@given(rows=sequences(max_count=5), batch_size=batch_sizes, seed=run_seeds)
def test_a_restored_iterator_goes_on_as_the_original(subject, rows, batch_size, seed):
    """Stopped at every position of three epochs; the state goes through JSON and into a fresh iterator, twice."""
    expected = expected_batches(rows, batch_size, seed)
    original = subject.data_iterator(rows, batch_size, seed)
    for cut in range(len(expected)):
        state = original.state()
        for _ in range(2):
            copy = subject.data_iterator(rows, batch_size, seed)
            copy.restore(json.loads(json.dumps(state)))
            again = json.dumps(copy.state(), sort_keys=True)
            holds(
                "DATA-04", again == json.dumps(state, sort_keys=True), f"state {state} came back as {again}"
            )
            for epoch, indices in expected[cut:]:
                got = visited(copy.next_batch())
                found = f"restored before batch {cut}: got {got} in epoch {epoch}, expected {list(indices)}"
                holds("DATA-04", got == [int(i) for i in indices], found)
        original.next_batch()


@given(seed=run_seeds)
def test_data_and_control_streams_are_separate(subject, seed):
    """Sorting by the control stream's words gives another order, and dropout drawn from the data key another mask."""
    got = [int(i) for i in subject.epoch_order(40, seed, 0)]
    words = philox4x32(counters(np.arange(40), 0, 0), stream_key(seed, "control")).astype(np.uint64)
    control = np.argsort(words[:, 0] | words[:, 1] << np.uint64(32), kind="stable")
    holds("DATA-05", got != [int(i) for i in control], "the data order is drawn from the control stream")
    before = subject.dropout(np.ones((1, 4, 8)), 0.5, seed, 0, 0, 4)
    subject.epoch_order(40, seed, 1)
    same_bytes(
        "DATA-05", subject.dropout(np.ones((1, 4, 8)), 0.5, seed, 0, 0, 4), before, "mask after a shuffle"
    )
