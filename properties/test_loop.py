"""The training loop: windows, what is logged, the update, invariances, windows that are not finite, shared memory.

The subject trains a model of one matrix product, logits = dropout(E[input]) @ W + b (reference/training.py). Without
dropout its numbers are compared with the oracle's loop, under the bound of all updates so far
(reference/training_bounds.py).
"""

from dataclasses import replace

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from fixtures.loop_strategies import (
    ALWAYS,
    COUNTS,
    DROPOUT,
    LAYOUTS,
    LOUD,
    NEVER,
    NO_DROPOUT,
    STEADY,
    LoopCase,
    counted_case,
    laid_out,
    long_case,
    long_window_case,
    loop_cases,
    micro_batch,
    narrow_ids_case,
    predicted,
    repeated_where_broadcast,
    scattered,
    wide_case,
)
from fixtures.strategies import generators, seeds
from honestloop.guard import Misbehaviour
from properties.assertions import holds, not_offered, same_bytes, spare, within
from properties.checks import checks
from properties.dtypes import either, to
from properties.loop_helpers import (
    Kept,
    Loop,
    any_mask,
    in_domain,
    oracle_trainer,
    same_arrays,
    same_run,
)
from reference import bounds
from reference.training_bounds import bounded

not_finite = st.sampled_from(["nan", "inf", "-inf"])


def new_loop(subject, case, dtype):
    """The subject's loop for a case."""
    return Loop(subject, subject.trainer, to(dtype, case.params), case.settings, case.accumulate)


def loop_and_oracle(subject, case, dtype):
    """The subject's loop and the oracle's, of the same parameters and settings."""
    return new_loop(subject, case, dtype), oracle_trainer(subject, case.params, case.settings, dtype)


def expected(loop, records, *names):
    """These fields of every record of the oracle, with their bounds, as far as the subject has them."""
    return [
        {name: bounded(np.asarray(0.0) + record[name]) for name in names if name in loop.fields}
        for record in records
    ]


def apart(value, a, b):
    """`value` with the sum of the bounds of two runs: how far two correct runs may be from each other."""
    return bounds.Bounded(np.asarray(value, dtype=np.float64), a.bound + b.bound)


def made(oracle, epoch, accumulate):
    """The windows of an epoch that make updates."""
    return [window for window in oracle.windows(epoch, accumulate) if not oracle.leaves_out(window)]


# ---- windows and what is logged


@checks(
    "LOOP-01",
    case=loop_cases(passes=(1, 3), shortest=0, longest=7, rates="any", dropout=NO_DROPOUT | DROPOUT),
)
def test_every_window_is_one_update(subject, dtype, case):
    """An epoch may be empty."""
    case = in_domain(subject, case)
    loop, oracle = loop_and_oracle(subject, case, dtype)
    for epochs, records in loop.passes(case.epochs):
        wanted = [predicted(w) for epoch in epochs for w in made(oracle, epoch, case.accumulate)]
        sizes = ", ".join(str(len(epoch)) for epoch in epochs)
        found = f"an epoch of {sizes} micro-batches, accumulate {case.accumulate}"
        holds(
            "LOOP-01", len(records) == len(wanted), f"{found}: {len(records)} records, expected {len(wanted)}"
        )
        missing = [name for name in loop.fields if any(name not in record for record in records)]
        holds("LOOP-01", not missing, f"a record without {', '.join(missing)}")
        if "tokens" in loop.fields:
            got = [int(record["tokens"]) for record in records]
            holds("LOOP-01", got == wanted, f"{found}: predicted tokens {got}, expected {wanted}")
        for name, x in loop.arrays().items():
            shape = case.params[name].shape
            holds("SUBJ-01", x.dtype == dtype, f"parameters of {np.dtype(dtype)} come back as {x.dtype}")
            holds("SUBJ-01", x.shape == shape, f"{name} has shape {x.shape}, expected {shape}")


@checks("LOOP-02", case=loop_cases(passes=(1, 2), rates="frozen", models=LOUD))
def test_the_logged_loss_is_the_token_mean_of_the_window(subject, dtype, case):
    """All rates are 0, so that no parameter moves and a wrong update does not show here."""
    case = in_domain(subject, case)
    loop, oracle = loop_and_oracle(subject, case, dtype)
    for epochs, records in loop.passes(case.epochs):
        windows = [w for epoch in epochs for w in made(oracle, epoch, case.accumulate)]
        wanted = [{"loss": oracle.token_mean(oracle.gather(w))[0]} for w in windows]
        assume(windows or records)
        within("LOOP-02", loop.logged(records, "loss"), expected(loop, wanted, "loss"), dtype)


@checks("LOOP-03", case=loop_cases(passes=(1, 2), rates="frozen", max_norms=NEVER | ALWAYS, models=LOUD))
def test_the_logged_norm_is_that_of_the_whole_window_before_clipping(subject, dtype, case):
    case = in_domain(subject, case)
    loop, oracle = loop_and_oracle(subject, case, dtype)
    loop.needs("grad_norm")
    for epochs, records in loop.passes(case.epochs):
        windows = [w for epoch in epochs for w in made(oracle, epoch, case.accumulate)]
        assume(windows or records)
        means = [oracle.token_mean(oracle.gather(w))[1] for w in windows]
        wanted = expected(loop, [{"grad_norm": oracle.clip(mean)[1]} for mean in means], "grad_norm")
        within("LOOP-03", loop.logged(records, "grad_norm"), wanted, dtype)


@checks("LOOP-04", case=loop_cases(passes=(1, 3), shortest=0, longest=6, rates="any"))
def test_the_rate_ticks_once_an_update(subject, case):
    dtype = either(subject, case.settings["seed"])
    case = in_domain(subject, case)
    loop, oracle = loop_and_oracle(subject, case, dtype)
    rates = [{"lr": float(record["lr"])} for record in loop.run(case.epochs)]
    updates = sum(len(made(oracle, epoch, case.accumulate)) for epoch in case.epochs)
    assume(updates or rates)
    holds("LOOP-04", len(rates) == updates, f"{len(rates)} records, expected {updates}")
    within("LOOP-04", rates, [{"lr": bounded(oracle.rate(k))} for k in range(updates)], np.float64)


@checks("LOOP-01", "LOOP-02", "LOOP-03")
def test_counts_that_narrow_types_do_not_hold(subject, dtype):
    """More tokens in a window than a byte, bfloat16, float16 and 16 bits count; more micro-batches than a byte."""
    for case in [*map(counted_case, COUNTS), long_window_case()]:
        case = in_domain(subject, case)
        loop, oracle = loop_and_oracle(subject, case, dtype)
        records, wanted = loop.run(case.epochs), oracle.train(case.epochs[0], case.accumulate)
        found = f"{len(records)} records, expected {len(wanted)}"
        holds("LOOP-01", len(records) == len(wanted), found)
        if "tokens" in loop.fields:
            got, right = ([int(record["tokens"]) for record in run] for run in (records, wanted))
            holds("LOOP-01", got == right, f"predicted tokens {got}, expected {right}")
        within("LOOP-02", loop.logged(records[:1], "loss"), expected(loop, wanted[:1], "loss"), dtype)
        if "grad_norm" in loop.fields:
            norms = loop.logged(records[:1], "grad_norm"), expected(loop, wanted[:1], "grad_norm")
            within("LOOP-03", *norms, dtype)
        else:
            spare("LOOP-03")


@checks("LOOP-02", "LOOP-05")
def test_ids_that_16_bits_do_not_hold(subject, dtype):
    """A vocabulary of more than 2^16 tokens, two of which differ in the seventeenth bit alone."""
    case = in_domain(subject, wide_case())
    loop, oracle = loop_and_oracle(subject, case, dtype)
    records, wanted = loop.run(case.epochs), oracle.train(case.epochs[0], case.accumulate)
    within("LOOP-02", loop.logged(records, "loss"), expected(loop, wanted, "loss"), dtype)
    within("LOOP-05", loop.arrays(), bounded(oracle.parameters()), dtype)


# ---- the update


@checks("LOOP-05", case=loop_cases(passes=(1, 1), longest=3, max_norms=NEVER), whole=st.booleans())
def test_the_first_update_is_the_formula(subject, dtype, case, whole):
    """What is logged is not compared: a log that is wrong hides no wrong update."""
    case = one_window(subject, case, whole)
    loop, oracle = loop_and_oracle(subject, case, dtype)
    loop.run(case.epochs)
    oracle.train(case.epochs[0], case.accumulate)
    within("LOOP-05", loop.arrays(), bounded(oracle.parameters()), dtype)


def one_window(subject, case, whole=True):
    """The first epoch as one window, or its first micro-batch alone."""
    epoch = case.epochs[0] if whole else case.epochs[0][:1]
    return in_domain(subject, LoopCase(case.params, case.settings, [epoch], len(epoch)), 1)


@checks("LOOP-06", case=loop_cases(passes=(1, 1), max_norms=ALWAYS), eps=st.sampled_from([0.01, 0.3]))
def test_the_gradient_of_the_window_is_clipped(subject, dtype, case, eps):
    """One update, whose size shows that of the gradient because eps is not small beside it."""
    case = LoopCase(case.params, case.settings | {"eps": eps}, case.epochs, case.accumulate)
    case = one_window(subject, case)
    loop, oracle = loop_and_oracle(subject, case, dtype)
    wanted = oracle.train(case.epochs[0], case.accumulate)
    assume(any(float(record["grad_norm"]) > case.settings["max_norm"] for record in wanted))
    loop.run(case.epochs)
    within("LOOP-06", loop.arrays(), bounded(oracle.parameters()), dtype)


@checks("LOOP-07", case=loop_cases(passes=(2, 3), shortest=0, longest=3))
def test_several_updates_are_the_formula(subject, dtype, case):
    """Parameters after every epoch, and what was logged on the way."""
    case = in_domain(subject, case)
    loop, oracle = loop_and_oracle(subject, case, dtype)
    for epochs, records in loop.passes(case.epochs):
        wanted = [record for epoch in epochs for record in oracle.train(epoch, case.accumulate)]
        agree_so_far(loop, oracle, records, wanted, dtype)


def agree_so_far(loop, oracle, records, wanted, dtype):
    """What was logged, and the parameters now."""
    names = "loss", "grad_norm"
    if wanted or records:
        within("LOOP-07", loop.logged(records, *names), expected(loop, wanted, *names), dtype)
    within("LOOP-07", loop.arrays(), bounded(oracle.parameters()), dtype)


@checks("LOOP-07")
def test_hundreds_of_updates_are_the_formula(subject):
    """One fixed run that every gradient of is clipped: mistakes that begin at some update, counters that wrap at 256.

    The bound of a loop in single precision is of no use after a hundred updates.
    """
    wide = np.float64 in subject.conventions.float_types
    case = in_domain(subject, long_case(passes=27 if wide else 5))
    if subject.conventions.schedule == "constant":  # at the peak for ever the bound would be of no use either
        case = replace(case, settings=case.settings | {"peak": case.settings["floor"]})
    dtype = np.float64 if wide else np.float32
    loop, oracle = loop_and_oracle(subject, case, dtype)
    number = 0
    for epochs, records in loop.passes(case.epochs):
        wanted = [record for epoch in epochs for record in oracle.train(epoch, case.accumulate)]
        names = "loss", "grad_norm"
        within("LOOP-07", loop.logged(records, *names), expected(loop, wanted, *names), dtype)
        number += len(epochs)
        if number % 5 == 0 or number == len(case.epochs):
            within("LOOP-07", loop.arrays(), bounded(oracle.parameters()), dtype)


@checks("LOOP-08", case=loop_cases(passes=(1, 2), dropout=NO_DROPOUT | DROPOUT), kept=st.booleans())
def test_with_nothing_to_predict_only_the_decay_acts(subject, dtype, case, kept):
    any_mask(subject)
    settings = case.settings | ({} if kept else {"weight_decay": 0.0})
    empty = [[(x, y, np.zeros_like(mask)) for x, y, mask in epoch] for epoch in case.epochs]
    case = in_domain(subject, LoopCase(case.params, settings, empty, case.accumulate))
    loop, oracle = loop_and_oracle(subject, case, dtype)
    for epochs, records in loop.passes(case.epochs):
        for epoch in epochs:
            oracle.train(epoch, case.accumulate)
        for record in loop.logged(records, "loss", "grad_norm"):
            holds("LOOP-08", not any(record.values()), f"nothing to predict: {record}")
    after = loop.arrays()
    moved = {"E", "W", "b"} if oracle.decayed == "all" else {"E", "W"}
    if settings["weight_decay"] == 0.0 or oracle.empty_window == "skip":
        moved = set()
    for name in ("b", "E", "W"):
        if name not in moved:
            same_bytes("LOOP-08", after[name], to(dtype, case.params[name]), f"{name}, which does not decay")
    within("LOOP-08", after, bounded(oracle.parameters()), dtype)


# ---- invariances


@checks("LOOP-09", case=loop_cases(passes=(1, 1)), rng=generators, pieces=st.integers(1, 4))
def test_how_a_window_is_cut_makes_no_difference(subject, case, rng, pieces):
    """The rows of a window shuffled and divided into other micro-batches, each padded to its own longest row."""
    dtype = either(subject, case.settings["seed"])
    case = one_window(subject, case)
    if subject.conventions.domain != "any":  # equal micro-batches of a row each
        pieces = sum(len(tokens) for tokens, _, _ in case.epochs[0])
    agree_after_one_update("LOOP-09", subject, dtype, case, cut_again(case.epochs[0], rng, pieces))


def cut_again(window, rng, pieces):
    """The rows of a window, shuffled and divided into at most this many micro-batches."""
    rows = [(tokens[i], targets[i], mask[i]) for tokens, targets, mask in window for i in range(len(mask))]
    parts = np.array_split(rng.permutation(len(rows)), min(pieces, len(rows)))
    return [stacked([rows[i] for i in part]) for part in parts]


def stacked(rows):
    """One micro-batch of rows of unequal length; the padding is masked."""
    length = max(len(mask) for _, _, mask in rows)
    padded = [[np.pad(x, (0, length - len(x))) for x in row] for row in rows]
    return tuple(np.stack(parts) for parts in zip(*padded, strict=True))


@checks(
    "LOOP-10",
    case=loop_cases(passes=(1, 1)),
    rng=generators,
    columns=st.integers(0, 2),
    rows=st.integers(0, 2),
)
def test_masked_positions_make_no_difference(subject, case, rng, columns, rows):
    """Columns and rows of masked tokens are inserted anywhere, and the tokens at all masked positions are replaced."""
    any_mask(subject)
    dtype = either(subject, case.settings["seed"])
    case = one_window(subject, case)
    padded = [with_masked(batch, rng, columns, rows, len(case.params["b"])) for batch in case.epochs[0]]
    agree_after_one_update("LOOP-10", subject, dtype, case, padded)


def with_masked(batch, rng, columns, rows, vocab):
    """The micro-batch with inserted masked columns and rows, and random tokens and targets at masked positions."""
    for axis, count in ((1, columns), (0, rows)):
        places = rng.integers(0, batch[2].shape[axis] + 1, count)
        batch = tuple(np.insert(x, places, np.zeros((), x.dtype), axis=axis) for x in batch)
    tokens, targets, mask = batch
    noise = rng.integers(0, vocab, (2, *mask.shape))
    return np.where(mask, tokens, noise[0]), np.where(mask, targets, noise[1]), mask


def agree_after_one_update(rule, subject, dtype, case, other):
    """Both windows give the same record and the same parameters, within the sum of the bounds of the two runs."""
    results = []
    for window in (case.epochs[0], other):
        here = LoopCase(case.params, case.settings, [window], len(window))
        loop, oracle = loop_and_oracle(subject, here, dtype)
        records, wanted = loop.run(here.epochs), oracle.train(window, len(window))
        holds(rule, len(records) == len(wanted), f"{len(records)} records, expected {len(wanted)}")
        names = "loss", "grad_norm"
        got = {"records": loop.logged(records, *names), "parameters": loop.arrays()}
        allowed = {"records": expected(loop, wanted, *names), "parameters": bounded(oracle.parameters())}
        if "tokens" in loop.fields and records:
            found = f"{records[0]['tokens']} tokens instead of {predicted(window)}"
            holds(rule, int(records[0]["tokens"]) == predicted(window), found)
        results.append((got, allowed))
    (got, allowed), (other_got, other_allowed) = results
    assume(got["records"])
    within(rule, got, bounds.map_arrays(apart, other_got, allowed, other_allowed), dtype)


@checks("LOOP-11", case=loop_cases(passes=(2, 3), longest=6, dropout=NO_DROPOUT | DROPOUT))
def test_an_epoch_that_ends_with_a_whole_window_leaves_no_trace(subject, case):
    """The same windows in one call of train and in several give the same bytes."""
    dtype = either(subject, case.settings["seed"])
    case = in_domain(subject, case)
    if subject.conventions.epoch_edge == "draws":  # other masks from the second epoch on
        case = LoopCase(case.params, case.settings | {"dropout": 0.0}, case.epochs, case.accumulate)
    whole = [epoch for epoch in case.epochs if len(epoch) >= case.accumulate]
    assume(len(whole) > 1)
    epochs = [epoch[: len(epoch) // case.accumulate * case.accumulate] for epoch in whole]
    several = new_loop(subject, case, dtype)
    records = several.run(epochs)
    one = new_loop(subject, case, dtype)  # made when the other is done: RNG-05 asks for two at a time
    at_once = one.run([[batch for epoch in epochs for batch in epoch]])
    same_run("LOOP-11", records, at_once, "in several passes, and in one", one.fields)
    same_arrays("LOOP-11", several.arrays(), one.arrays(), "after several passes, and after one")


@checks(
    "LOOP-15",
    case=loop_cases(passes=(1, 1), longest=6),
    start=st.integers(0, 23),
    order=st.permutations(["E", "W", "b"]),
)
def test_memory_layout_integer_type_and_order_of_names_make_no_difference(subject, case, start, order):
    agree_whatever_the_layout(subject, either(subject, start), case, start, order)


@checks("LOOP-15")
def test_no_offset_is_computed_in_the_integer_type_of_the_ids(subject, dtype):
    for start in range(0, 24, 5):
        agree_whatever_the_layout(subject, dtype, narrow_ids_case(), start, ["E", "W", "b"])


def agree_whatever_the_layout(subject, dtype, case, start, names):
    """Every array in a layout of its own, tokens in every integer type, parameters in another order of names."""
    layouts = [LAYOUTS[(start + i) % 5] for i in range(3)]  # not broadcast: parameters are written to
    plain = repeated_where_broadcast(case.epochs[0], start)
    case = in_domain(subject, LoopCase(case.params, case.settings, [plain], case.accumulate))
    plain = repeated_where_broadcast(case.epochs[0], start)
    given = {n: laid_out(to(dtype, case.params[n]), x) for n, x in zip(names, layouts, strict=True)}
    loop = Loop(subject, subject.trainer, given, case.settings, case.accumulate)
    oracle = oracle_trainer(subject, case.params, case.settings, dtype)
    odd = scattered(plain, start)
    records, wanted = loop.run([odd]), oracle.train(plain, case.accumulate)
    fields = "loss", "grad_norm"
    if wanted or records:
        within("LOOP-15", loop.logged(records, *fields), expected(loop, wanted, *fields), dtype)
    within("LOOP-15", loop.arrays(), bounded(oracle.parameters()), dtype)
    if "evaluate" in loop.parts and predicted(plain):
        within("LOOP-15", loop.evaluate(odd), bounded(np.asarray(0.0) + oracle.evaluate(plain)), dtype)


# ---- windows that are not finite


@checks(
    "LOOP-12",
    case=loop_cases(passes=(1, 1), longest=3, dropout=NO_DROPOUT),
    rng=generators,
    value=not_finite,
    place=st.sampled_from(["first", "last", "only"]),
    trained=st.booleans(),
)
def test_a_window_that_is_not_finite_changes_nothing(subject, case, rng, value, place, trained):
    """One row of E is not finite, and one token of one micro-batch uses it. Raising and skipping are both right."""
    dtype = either(subject, case.settings["seed"])
    case, good, vocab = with_a_bad_token(subject, case, value)
    bad = spoiled(subject, good, rng, vocab, place)
    loop = new_loop(subject, case, dtype)
    if trained and not loop.fits:
        loop.train(good)
    before = loop.arrays()
    train_or_raise(loop, bad)
    same_arrays("LOOP-12", loop.arrays(), before, f"{value} in the {place} micro-batch")
    if not loop.fits:
        train_or_raise(loop, good)
        stays_finite(loop, vocab, "the window after it: the moments were changed")


def with_a_bad_token(subject, case, value):
    """(the case, whose last token has a row of E with this value; its first epoch without that token; vocabulary)"""
    case = one_window(subject, case)
    vocab = len(case.params["b"])
    good = [(np.minimum(tokens, vocab - 2), targets, mask) for tokens, targets, mask in case.epochs[0]]
    params = dict(case.params, E=case.params["E"].copy())
    params["E"][vocab - 1] = float(value)
    settings = in_domain(subject, LoopCase(params, case.settings, [good], len(good)), 9).settings
    return LoopCase(params, settings, [good], len(good)), good, vocab


@checks("LOOP-12", case=loop_cases(passes=(1, 1)), rng=generators, value=not_finite, at=st.integers(0, 2))
def test_a_window_that_is_not_finite_is_noticed_anywhere_in_an_epoch(subject, case, rng, value, at):
    """One of three windows of a pass is not finite. Whether the loop then makes the other updates is its own choice."""
    dtype = either(subject, case.settings["seed"])
    case, good, vocab = with_a_bad_token(subject, case, value)
    bad = spoiled(subject, good, rng, vocab, "last")
    loop = new_loop(subject, case, dtype)
    passed = [good, good, good]
    passed[at] = bad
    train_or_raise(loop, [batch for window in passed for batch in window])
    stays_finite(loop, vocab, f"an epoch with {value} in window {at} of 3")


@checks("LOOP-12", rng=generators, which=st.sampled_from(["E", "W"]), sign=st.sampled_from([-1.0, 1.0]))
def test_a_finite_loss_with_a_gradient_that_is_not_finite_changes_nothing(subject, dtype, rng, which, sign):
    """All logits are 0, because a matrix is; the other one is so large that the gradient, or its norm, overflows."""
    large = sign * 0.9 * float(np.finfo(dtype).max)
    params = {"E": np.zeros((4, 2)), "W": np.zeros((2, 4)), "b": np.zeros(4)}
    params[which][...] = large
    params["W"][:, 0] *= -1.0
    tokens = rng.integers(0, 4, (2, 6))
    batch = tokens, np.zeros_like(tokens), np.ones((2, 6), dtype=bool)
    case = in_domain(subject, LoopCase(params, STEADY | {"weight_decay": 0.0, "max_norm": 1.0}, [[batch]], 1))
    loop = new_loop(subject, case, dtype)
    train_or_raise(loop, case.epochs[0])
    stays_finite(loop, 5, "an update from a finite loss")
    if not loop.fits:
        train_or_raise(loop, case.epochs[0])
        stays_finite(loop, 5, "two updates from a finite loss")


def train_or_raise(loop, batches):
    """The records of a pass; None for an exception, which is a correct answer."""
    try:
        return loop.train(batches)
    except Misbehaviour as error:
        if error.rule != "SUBJ-05":
            raise
    return None


def stays_finite(loop, vocab, what):
    """Every parameter is finite, except the last row of E, which was not finite from the start."""
    for name, x in loop.arrays().items():
        finite = np.isfinite(x[: vocab - 1] if name == "E" else x).all()
        holds("LOOP-12", finite, f"{name} is not finite after {what}")


def spoiled(subject, window, rng, vocab, place):
    """The window with its first, its last or every micro-batch replaced by one that uses the last token."""
    if subject.conventions.domain == "any":
        tokens, targets, mask = micro_batch(rng, vocab - 1, 2, 2, "one")
        bad = np.where(mask, vocab - 1, tokens), targets, mask
    else:
        bad = tuple(x.copy() for x in window[0])
        bad[0].flat[rng.integers(bad[0].size)] = vocab - 1
    if place == "only":
        return [bad] * len(window)
    return [bad, *window[1:]] if place == "first" else [*window[:-1], bad]


@checks(
    "LOOP-14",
    case=loop_cases(passes=(1, 1), longest=3),
    rng=generators,
    value=not_finite,
    trained=st.booleans(),
)
def test_a_window_that_is_skipped_is_no_update(subject, case, rng, value, trained):
    """Of a loop that goes on after it: the window after it is, bit for bit, what it would have been without it."""
    dtype = either(subject, case.settings["seed"])
    case, good, vocab = with_a_bad_token(subject, case, value)
    assume(predicted(good))
    bad = spoiled(subject, good, rng, vocab, "last")
    before = good if trained else []
    skipping, plain = (new_loop(subject, case, dtype) for _ in range(2))
    records = train_or_raise(skipping, [*before, *bad, *good])
    if records is None:
        not_offered("it raises where a window is not finite")
    wanted = plain.train([*before, *good])
    last, other = (list(run)[-1:] for run in (records, wanted))
    same_run(
        "LOOP-14", last, other, "the update after a window that was skipped, and without it", plain.fields
    )
    same_arrays(
        "LOOP-14", skipping.arrays(), plain.arrays(), "after a window that was skipped, and without it"
    )


# ---- shared memory


@checks("LOOP-13", case=loop_cases(passes=(2, 2), longest=3, dropout=NO_DROPOUT | DROPOUT), seed=seeds)
def test_the_loop_shares_no_memory(subject, case, seed):
    """The caller overwrites every array that it passed or received: the run goes on as if it had not.

    What was returned earlier, arrays and records, keeps its values while the run goes on.
    """
    dtype = either(subject, case.settings["seed"])
    case = in_domain(subject, case)
    first, second = case.epochs
    plain = new_loop(subject, case, dtype)
    undisturbed = [plain.train(first), plain.train(second)]

    passed = {name: np.array(x, dtype=dtype) for name, x in case.params.items()}
    loop = Loop(subject, subject.trainer, passed, case.settings, case.accumulate)
    buffer = [tuple(x.copy() for x in batch) for batch in first]
    records = loop.train(buffer)
    kept_records = Kept(records)
    same_run("LOOP-13", records, undisturbed[0], "two trainers of the same settings", loop.fields)
    same_arrays(
        "LOOP-13", passed, to(dtype, case.params), "the arrays the trainer was made from, after training"
    )
    returned, seen = loop.parameters(), Kept(loop.observed())
    kept = {name: np.array(returned[name]) for name in passed}
    overwrite(passed, buffer)
    same_arrays("LOOP-13", loop.arrays(), kept, "after its caller wrote into what it had passed")
    again = loop.train(second)
    kept_records.unchanged("LOOP-13", "records of the epoch before")
    seen.unchanged("LOOP-13", "what observed() had returned")
    same_arrays("LOOP-13", returned, kept, "parameters returned before the last epoch")
    same_run("LOOP-13", again, undisturbed[1], "after its caller wrote into what it had passed", loop.fields)
    final = loop.arrays()
    for x in (y for y in loop.parameters().values() if isinstance(y, np.ndarray) and y.flags.writeable):
        x[...] = 7.0
    same_arrays("LOOP-13", loop.arrays(), final, "after its caller wrote into what parameters() returned")


def overwrite(params, buffer):
    """Write other values into every array."""
    for x in params.values():
        x[...] = 7.0
    for tokens, targets, mask in buffer:
        tokens[...], targets[...], mask[...] = 0, 0, True


# ---- an example that can be computed by hand


@checks("LOOP-05", "LOOP-02")
def test_one_token_by_hand(subject, dtype):
    """V = 2, all parameters 0: the loss is log 2, the gradient of b is (-1/2, 1/2), and AdamW moves b by the rate."""
    params = {"E": np.zeros((2, 1)), "W": np.zeros((1, 2)), "b": np.zeros(2)}
    settings = {
        "seed": 0,
        "dropout": 0.0,
        "peak": 0.25,
        "floor": 0.25,
        "warmup": 0,
        "total": 4,
        "beta1": 0.5,
        "beta2": 0.5,
        "eps": 1e-8,
        "weight_decay": 0.5,
        "max_norm": 10.0,
    }
    batch = np.array([[1]]), np.array([[0]]), np.array([[True]])
    case = LoopCase(params, settings, [[batch]], 1)
    loop, oracle = loop_and_oracle(subject, case, dtype)
    records, wanted = loop.run(case.epochs), oracle.train([batch], 1)
    within("LOOP-02", loop.logged(records, "loss"), expected(loop, wanted, "loss"), dtype)
    within("LOOP-05", loop.arrays(), bounded(oracle.parameters()), dtype)
