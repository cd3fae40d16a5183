"""The order of an epoch, random windows of a long text, and the data iterator with its state."""

import itertools
import json

import numpy as np
from hypothesis import strategies as st

from fixtures.explicit_cases import SEEDS
from fixtures.handed_over import INTEGERS, LAYOUTS, locked, repeated
from fixtures.strategies import generators, run_seeds, sequences
from honestloop.protocol import fields
from properties.assertions import holds, refuse, same_bytes
from properties.checks import checks
from reference import data
from reference.philox import counters, philox4x32, stream_key

batch_sizes = st.integers(1, 4)
epochs = st.one_of(st.integers(0, 50), st.integers(2**32 - 1, 2**33))
EPOCHS = 3
PARTS = ("input", "target", "loss mask", "key mask")


def visited(batch):
    """The numbers of the sequences in a batch: the second token of each is 5 + number (fixtures/strategies.py)."""
    return [int(row[0]) - 5 for row in fields(batch)[1]]


def expected_batches(subject, rows, batch_size, seed, epochs=EPOCHS):
    """(epoch, sequence numbers) of every batch of the first epochs, by the oracle.

    A subject with a generator of its own gives the order itself, by an iterator that is only read.
    """
    count = epochs * -(-len(rows) // batch_size)
    if subject.conventions.generator == "philox":
        batches = itertools.islice(data.batches(len(rows), batch_size, seed), count)
        return [(epoch, [int(i) for i in indices]) for epoch, indices in batches]
    iterator = subject.data_iterator(rows, batch_size, seed)
    return [(number * epochs // count, visited(iterator.next_batch())) for number in range(count)]


SIZES = [{"n": n, "seed": n, "epoch": n} for n in (1, 257, 2049, 65537)]
"""One sequence, and more than bfloat16, float16 and 16 bits can number."""
EDGES = [{"seed": seed} for seed in SEEDS]


@checks("DATA-01", n=st.integers(1, 40), seed=run_seeds, epoch=epochs, always=SIZES)
def test_the_order_is_a_permutation_by_philox(subject, n, seed, epoch):
    got = subject.epoch_order(n, seed, epoch)
    holds("DATA-01", sorted(int(i) for i in got) == list(range(n)), f"not a permutation of {n}: {list(got)}")
    if subject.conventions.generator == "philox":
        expected = data.epoch_order(n, seed, epoch)
        same_bytes("DATA-01", np.asarray(got, dtype=np.int64), expected, "order by Philox words")


@checks("DATA-02", seed=run_seeds, epoch=st.integers(0, 1000), always=[e | {"epoch": 0} for e in EDGES])
def test_epochs_and_seeds_have_their_own_order(subject, seed, epoch):
    """Two independent orders of 40 sequences are equal with probability 1 / 40!."""
    order = list(subject.epoch_order(40, seed, epoch))
    others = {
        "the next epoch": subject.epoch_order(40, seed, epoch + 1),
        "the next seed": subject.epoch_order(40, (seed + 1) % 2**64, epoch),
        "the next seed, one epoch back": subject.epoch_order(40, (seed + 1) % 2**64, max(epoch - 1, 0)),
    }
    if subject.conventions.seeds == "64 bits":
        others["a seed that differs in its upper half"] = subject.epoch_order(
            40, (seed + 2**32) % 2**64, epoch
        )
    for what, other in others.items():
        holds("DATA-02", order != list(other), f"{what} has the same order")


@checks("DATA-02", seed=run_seeds, batch_size=st.sampled_from([1, 7, 40]))
def test_an_iterator_takes_each_epoch_in_another_order(subject, seed, batch_size):
    """Seen from its batches alone: two independent orders of 40 sequences are equal with probability 1 / 40!."""
    rows = [[1, 5 + i] for i in range(40)]
    iterator = subject.data_iterator(rows, batch_size, seed)
    in_an_epoch = -(-len(rows) // batch_size)
    orders = [[i for _ in range(in_an_epoch) for i in visited(iterator.next_batch())] for _ in range(EPOCHS)]
    found = f"of {EPOCHS} epochs of {len(rows)} sequences two have the same order"
    holds("DATA-02", len({tuple(order) for order in orders}) == EPOCHS, found)


@checks("DATA-03", rows=sequences(), batch_size=batch_sizes, seed=run_seeds)
def test_an_epoch_visits_every_sequence_once(subject, rows, batch_size, seed):
    """Every batch has the batch size, but the last one of an epoch, which holds the rest; none spans two epochs."""
    iterator = subject.data_iterator(rows, batch_size, seed)
    seen: list[int] = []
    for number, (epoch, indices) in enumerate(expected_batches(subject, rows, batch_size, seed)):
        batch = iterator.next_batch()
        if number % -(-len(rows) // batch_size) == 0:
            seen = []
        seen += visited(batch)
        found = f"epoch {epoch}: got sequences {visited(batch)}, expected {indices}"
        holds("DATA-03", visited(batch) == indices, found)
        full = len(seen) == len(rows) or len(indices) == batch_size
        holds("DATA-03", full and len(set(seen)) == len(seen), f"epoch {epoch} visited {seen} of {len(rows)}")
        holds("DATA-03", iterator.epoch == epoch, f"epoch {iterator.epoch} after a batch of epoch {epoch}")
        expected = data.make_batch([rows[i] for i in indices])
        for got, wanted, name in zip(fields(batch), expected, PARTS, strict=True):
            same_bytes("DATA-03", got, wanted, f"{name} of the batch")


@st.composite
def short_documents(draw):
    """Sequences of one to four tokens out of three, so that many are equal and some have nothing to predict."""
    rng, count = draw(generators), draw(st.integers(1, 9))
    return [[int(t) for t in rng.integers(5, 8, rng.integers(1, 5))] for _ in range(count)]


SHORT = [[[5]], [[1, 5], [1, 5]], [[1, 5], [5], [1, 5], [5]]]


@checks(
    "DATA-03",
    rows=short_documents(),
    batch_size=batch_sizes,
    seed=run_seeds,
    always=[{"rows": rows, "batch_size": 1, "seed": SEEDS[-1]} for rows in SHORT],
)
def test_equal_sequences_are_visited_as_often_as_they_are_given(subject, rows, batch_size, seed):
    iterator = subject.data_iterator(rows, batch_size, seed)
    for epoch in range(EPOCHS):
        seen = []
        for first in range(0, len(rows), batch_size):
            batch = iterator.next_batch()
            inputs, targets, mask, _ = fields(batch)
            asked = min(batch_size, len(rows) - first)
            found = (
                f"a batch of {len(inputs)} rows, expected {asked}; epoch {iterator.epoch} of epoch {epoch}"
            )
            holds("DATA-03", len(inputs) == asked and iterator.epoch == epoch, found)
            seen += [
                (tuple(x[m].tolist()), tuple(y[m].tolist()))
                for x, y, m in zip(inputs, targets, mask, strict=True)
            ]
        given = sorted((tuple(row[:-1]), tuple(row[1:])) for row in rows)
        holds("DATA-03", sorted(seen) == given, f"epoch {epoch} visited {sorted(seen)}, given were {given}")


@checks("DATA-04", rows=sequences(max_count=5), batch_size=batch_sizes, seed=run_seeds)
def test_a_restored_iterator_goes_on_as_the_original(subject, rows, batch_size, seed):
    """Saved before every batch of three epochs; the state passes through JSON and into a new iterator, twice."""
    expected = expected_batches(subject, rows, batch_size, seed)
    original = subject.data_iterator(rows, batch_size, seed)
    for cut in range(len(expected)):
        state = as_json(original.state())
        for _ in range(2):
            copy = subject.data_iterator(rows, batch_size, seed)
            copy.restore(json.loads(state))
            again = as_json(copy.state())
            holds("DATA-04", again == state, f"state {state} came back as {again}")
            for epoch, indices in expected[cut:]:
                got = visited(copy.next_batch())
                found = f"restored before batch {cut}: got {got} in epoch {epoch}, expected {indices}"
                holds("DATA-04", got == indices, found)
        original.next_batch()


SIX = [[1, 5 + i] for i in range(6)]


@checks(
    "DATA-04",
    rows=sequences(),
    batch_size=batch_sizes,
    seed=run_seeds,
    cuts=st.tuples(*[st.integers(0, 3)] * 3),
    always=[{"rows": SIX, "batch_size": 1, "seed": 0, "cuts": cuts} for cuts in ((2, 1, 1), (6, 0, 7))],
)
def test_an_iterator_can_be_stopped_again_and_again(subject, rows, batch_size, seed, cuts):
    """Stopped, restored, gone on a few batches and stopped again, three times; the states are taken on the way."""
    expected = expected_batches(subject, rows, batch_size, seed, epochs=10)
    iterator, given = subject.data_iterator(rows, batch_size, seed), 0
    for cut in cuts:
        for _ in range(min(cut, len(expected) - given)):
            epoch, indices = expected[given]
            got, given = visited(iterator.next_batch()), given + 1
            found = f"batch {given} after {cuts}: got {got} in epoch {epoch}, expected {indices}"
            holds("DATA-04", got == indices, found)
        state = as_json(iterator.state())
        iterator = subject.data_iterator(rows, batch_size, seed)
        iterator.restore(json.loads(state))
    for epoch, indices in expected[given : given + 4]:
        got = visited(iterator.next_batch())
        holds(
            "DATA-04", got == indices, f"stopped after {cuts}: got {got} in epoch {epoch}, expected {indices}"
        )


def as_json(state):
    """The state as JSON; a state that JSON cannot hold breaks the rule."""
    try:
        return json.dumps(state, sort_keys=True)
    except TypeError as error:
        refuse("DATA-04", f"the state cannot be stored as JSON: {error}")


@checks("DATA-05", seed=run_seeds)
def test_data_and_control_streams_are_separate(subject, seed):
    """The order is not that of the control stream's words, and a shuffle changes no dropout mask."""
    got = [int(i) for i in subject.epoch_order(40, seed, 0)]
    words = philox4x32(counters(np.arange(40), 0, 0), stream_key(seed, "control")).astype(np.uint64)
    control = np.argsort(words[:, 0] | words[:, 1] << np.uint64(32), kind="stable")
    holds("DATA-05", got != [int(i) for i in control], "the data order is drawn from the control stream")
    before = subject.dropout(np.ones((1, 4, 8)), 0.5, seed, 0, 0, 4)
    subject.epoch_order(40, seed, 1)
    same_bytes(
        "DATA-05", subject.dropout(np.ones((1, 4, 8)), 0.5, seed, 0, 0, 4), before, "mask after a shuffle"
    )


@checks("DATA-08", starts=st.integers(1, 5), context=st.integers(1, 9), seed=run_seeds)
def test_windows_start_everywhere_and_the_target_is_next(subject, starts, context, seed):
    """The text is 7, 8, 9, ..., so that a window shows where it starts.

    64 windows are drawn for each possible start: a given one is missed with probability below e^-64.
    """
    text = 7 + np.arange(starts + context)
    inputs, targets = (np.asarray(x) for x in subject.sample_batch(text, 64 * starts, context, seed))
    shape = (64 * starts, context)
    shapes = f"got {inputs.shape} and {targets.shape}, not {shape}"
    holds("DATA-08", inputs.shape == targets.shape == shape, shapes)
    consecutive = np.all(inputs == inputs[:, :1] + np.arange(context))
    holds("DATA-08", consecutive, "a window is not a part of the text")
    holds("DATA-08", np.all(targets == inputs + 1), "a target is not the token one later")
    found = sorted({int(x) - 7 for x in inputs[:, 0]})
    holds("DATA-08", found == list(range(starts)), f"windows start at {found} of 0 .. {starts - 1}")


@checks("DATA-08", seed=run_seeds, always=EDGES)
def test_windows_are_a_function_of_the_seed(subject, seed):
    """64 windows with 1000 possible starts are equal for two seeds with probability 10^-192."""
    text = np.arange(1004)
    first, again, other = (
        np.asarray(subject.sample_batch(text, 64, 4, s)[0], dtype=np.int64)
        for s in (seed, seed, (seed + 1) % 2**64)
    )
    same_bytes("DATA-08", again, first, "windows, drawn again")
    holds("DATA-08", not np.array_equal(first, other), "another seed gives the same windows")
    if subject.conventions.seeds == "64 bits":
        far = np.asarray(subject.sample_batch(text, 64, 4, (seed + 2**32) % 2**64)[0], dtype=np.int64)
        holds("DATA-08", not np.array_equal(first, far), "only the lower half of the seed is used")


@checks("DATA-08", seed=run_seeds)
def test_no_window_repeats_another(subject, seed):
    """Of 64 windows with 2^17 starts, 8 or more repeat another with probability below (64^2 / 2^18)^8 / 8! < 10^-18.

    All start in the lower half, where 16 bits would leave them, with probability 2^-64. The ids do not fit into 16 bits
    either.
    """
    text = 1 + np.arange(2**17 + 2)
    inputs, targets = (np.asarray(x, dtype=np.int64) for x in subject.sample_batch(text, 64, 2, seed))
    different = len(set(inputs[:, 0].tolist()))
    holds("DATA-08", different > 56, f"64 windows start at {different} different places of {2**17}")
    holds("DATA-08", inputs.max() > 2**16, "no window starts in the upper half of the text")
    consecutive = np.array_equal(targets, inputs + 1) and np.array_equal(inputs[:, 1], inputs[:, 0] + 1)
    holds("DATA-08", consecutive, "a window is not a part of the text")


IN_PLACE = [layout for layout in LAYOUTS.values() if layout is not repeated]


@checks(
    "DATA-08",
    seed=run_seeds,
    kind=st.sampled_from([*INTEGERS, np.int64]),
    layout=st.sampled_from(IN_PLACE),
    always=[
        *({"seed": 0, "kind": kind, "layout": locked} for kind in INTEGERS),
        *({"seed": 0, "kind": np.uint16, "layout": layout} for layout in IN_PLACE),
    ],
)
def test_the_text_may_be_integers_of_any_type(subject, seed, kind, layout):
    """As a file that is mapped into memory has them, which cannot be written to either."""
    text = layout(np.arange(100).astype(kind))
    inputs, targets = (np.asarray(x).astype(np.int64) for x in subject.sample_batch(text, 32, 3, seed))
    wanted = np.arange(3) + inputs[:, :1]
    right = np.array_equal(inputs, wanted) and np.array_equal(targets, wanted + 1)
    holds("DATA-08", right, f"windows of a text of {np.dtype(kind)} are not parts of it")


@checks("DATA-09", rows=sequences(), batch_size=batch_sizes, seed=run_seeds)
def test_what_was_given_out_stays_as_it_was(subject, rows, batch_size, seed):
    """Batches and states keep their values while their iterator goes on and while another one runs beside it."""
    iterator, other = (subject.data_iterator(rows, batch_size, seed) for _ in range(2))
    alone = [fields(subject.data_iterator(rows, batch_size, seed).next_batch())]
    kept = []
    for _ in range(4):
        state = iterator.state()
        text, batch = json.dumps(state), fields(iterator.next_batch())
        kept.append((state, text, batch, [x.copy() for x in batch]))
        other.next_batch()
    for number, (state, text, batch, copies) in enumerate(kept):
        found = f"the state before batch {number} was {text}, and is {json.dumps(state)}"
        holds("DATA-09", json.dumps(state) == text, found)
        for part, x, copy in zip(PARTS, batch, copies, strict=True):
            same_bytes("DATA-09", x, copy, f"{part} of batch {number}, after the next ones")
    for part, x, copy in zip(PARTS, alone[0], kept[0][3], strict=True):
        same_bytes("DATA-09", x, copy, f"{part} of the first batch of two iterators")
