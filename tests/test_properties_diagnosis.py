"""The diagnosis names what a subject does wrong, and nothing when it is right."""

import sys
from dataclasses import dataclass, replace

import numpy as np
import pytest

from fixtures.mutants import MUTANTS, subject_with
from fixtures.subjects import reference
from honestloop.conventions import Conventions
from honestloop.guard import Guard, Misbehaviour
from honestloop.protocol import Subject
from properties.diagnosis import diagnose
from properties.reproducer import snippet

LAW = Conventions()
LOGITS = np.array(
    [[[1.0, -2.0, 0.5], [0.0, 3.0, 1.0]], [[2.0, 2.0, -1.0], [1.0, 0.0, 0.0]]], dtype=np.float32
)
TARGETS = np.array([[0, 1], [2, 0]])
MASK = np.array([[True, True], [True, False]])


def names(guard, passed=()):
    return [mutant.id for mutant in diagnose(list(guard.calls), passed, LAW).mutants]


def in_single_precision(logits, targets, mask):
    """A mean of row means, in float32 and with operations in an order of its own; its gradient is right."""
    shifted = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    nll = -np.take_along_axis(shifted, targets[..., None], -1)[..., 0]
    rows = [row[keep].mean() for row, keep in zip(nll, mask, strict=True)]
    return float(np.mean(rows)), reference.functions(LAW)["cross_entropy"](logits, targets, mask)[1]


def test_a_mistake_in_other_words_is_named():
    guard = Guard()
    guard.function("cross_entropy", in_single_precision)(LOGITS, TARGETS, MASK)
    assert "loss_mean_of_row_means" in names(guard)


def test_a_correct_function_is_not_blamed():
    guard = Guard()
    guard.function("cross_entropy", reference.functions(LAW)["cross_entropy"])(LOGITS, TARGETS, MASK)
    assert names(guard) == []


def test_a_mistake_that_nobody_made_yet_is_not_named():
    guard = Guard()
    guard.function("cross_entropy", lambda *args: (17.0, np.zeros_like(args[0])))(LOGITS, TARGETS, MASK)
    assert names(guard) == []


def test_of_two_the_one_that_explains_what_passed_is_named():
    """A row with nothing to predict: a mean over the other rows is right, a mean over all of them is not."""
    guard = Guard()
    loss = guard.function("cross_entropy", MUTANTS["loss_mean_of_nonempty_row_means"].under(LAW))
    loss(LOGITS, TARGETS, np.array([[True, True], [False, False]]))
    passed = [list(guard.calls)]
    guard.forget()
    loss(LOGITS, TARGETS, MASK)
    assert {"loss_mean_of_row_means", "loss_mean_of_nonempty_row_means"} <= set(names(guard))
    assert names(guard, passed) == ["loss_mean_of_nonempty_row_means"]


HYPER = {"t": 3, "lr": 0.1, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "weight_decay": 0.1}


def adamw(p, g, m, v, *, t, lr, beta1, beta2, eps, weight_decay, l2=0.0):
    """AdamW in operations of its own: moments as m + w (g - m), corrections in the size of the step."""
    g = g + l2 * p
    m, v = m + (1.0 - beta1) * (g - m), v + (1.0 - beta2) * (g * g - v)
    size, root = lr / (1.0 - beta1**t), np.sqrt(v) / np.sqrt(1.0 - beta2**t)
    return p - lr * weight_decay * p - size * m / (root + eps), m, v


def updated(step, dtype=np.float32, **change):
    """The diagnosis of one update in which a gradient and its moments are 0, where the oracle has a bound of 0."""
    p, g, m = (np.array(x, dtype) for x in ([0.7, -1.3, 0.4], [0.0, 0.3, -2.0], [0.0, 0.1, -0.2]))

    def changed(*args, **s):
        return tuple(
            x.astype(dtype) for x in step(*args, **(s | {key: f(s[key]) for key, f in change.items()}))
        )

    guard = Guard()
    guard.function("adamw_step", changed)(p, g, m, m * m, **HYPER)
    return diagnose(list(guard.calls), (), LAW)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_l2_is_named_in_other_arithmetic_where_the_oracle_is_exact(dtype):
    """The decay of an entry whose gradient is 0 is all of its gradient: no roundoff of the oracle's is so large."""

    def textbook(*args, weight_decay, **s):
        return adamw(*args, **s, weight_decay=0.0, l2=weight_decay)

    assert updated(textbook, dtype).names == ("opt_l2_instead_of_decay",)


@pytest.mark.parametrize(
    ("number", "change"),
    [
        ("rate x 0.1", {"lr": lambda x: 0.1 * x}),
        ("decay x 2", {"weight_decay": lambda x: 2.0 * x}),
        ("epsilon = 0.2", {"eps": lambda x: 0.2}),
        ("beta1 = 0.7", {"beta1": lambda x: 0.7}),
        ("beta2 = 0.8", {"beta2": lambda x: 0.8}),
    ],
)
def test_a_number_of_one_update_is_solved_for(number, change):
    said = updated(adamw, np.float64, **change)
    assert said.names == ()
    same = {"decay x 2": "decay = 0.2"}  # of one call, a factor and a number are the same
    assert said.number in (number, same.get(number))


def test_else_the_first_wrong_result_is_told():
    said = updated(lambda *args, **s: (lambda p, m, v: (p, m, v * 1.5))(*adamw(*args, **s)), np.float64)
    assert (said.names, said.place) == ((), "second moment")


@pytest.mark.parametrize(
    ("changed", "conventions"),
    [({"decay": "after"}, {"decay": "after"}), ({"eps": "before correction"}, {"eps": "before correction"})],
)
def test_a_function_that_follows_another_convention_is_no_mistake(changed, conventions):
    step = reference.functions(replace(LAW, **changed))["adamw_step"]
    said = updated(step, np.float64)
    assert (said.conventions, said.names) == (conventions, ())


def test_what_a_call_does_besides_returning_counts():
    """A buffer that is used again: every value is right when it is returned."""
    guard = Guard()
    gelu = guard.function("gelu", MUTANTS["subject_buffer_used_again"].under(LAW))
    for x in (1.0, 2.0):
        gelu(np.full(3, x))
    assert "earlier result" in guard.calls[-1].effects
    assert names(guard) == ["subject_buffer_used_again"]


def trained(name, dtype=np.float32):
    """The calls of a short run of a mutant, a checkpoint among them."""
    params = {"E": np.ones((3, 2)), "W": np.array([[0.5, -0.5, 0.1], [0.2, 0.3, -0.4]]), "b": np.zeros(3)}
    settings = {"seed": 1, "dropout": 0.0, "peak": 0.1, "floor": 0.01, "warmup": 1, "total": 9}
    settings |= {"beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "weight_decay": 0.1, "max_norm": 1.0}
    batch = trained_batch()
    subject = Subject.of(name, subject_with(MUTANTS[name], LAW), LAW)
    start = {key: x.astype(dtype) for key, x in params.items()}
    one, other = subject.trainer(start, settings), subject.trainer(start, settings)
    one.train([batch, batch], 1)
    return subject, batch, one, other


def test_a_loop_is_diagnosed_across_its_checkpoint(tmp_path):
    subject, batch, one, other = trained("state_without_first_moment")
    one.save(str(tmp_path / "checkpoint"))
    other.load(str(tmp_path / "checkpoint"))
    other.train([batch], 1)
    other.parameters()
    assert names(subject.guard) == ["state_without_first_moment"]


class SaysMore:
    """A trainer of a mutant whose records hold more than the law names."""

    def __init__(self, *args):
        self.trainer = MUTANTS["loop_sum_of_the_window"].under(LAW)(*args)

    def train(self, *args):
        return [record | {"seconds": 0.5, "epoch": "first"} for record in self.trainer.train(*args)]


def test_a_field_more_in_a_record_silences_no_diagnosis():
    params, settings = trained("loop_sum_of_the_window")[0].guard.calls[0].args
    batch = trained_batch()
    guard = Guard()
    guard.function("trainer", SaysMore)(params, settings).train([batch], 1)
    assert "loop_sum_of_the_window" in names(guard)


def trained_batch():
    """The micro-batch of `trained`."""
    return TARGETS[:, :1], TARGETS[:, 1:], np.ones((2, 1), dtype=bool)


def test_an_attribute_that_is_wrong_is_seen():
    subject = Subject.of("x", subject_with(MUTANTS["tok_ties_to_the_larger_ids"], LAW), LAW)
    made = subject.tokenizer(["abc acb bac bca cab cba", "defgh klmno prstu", "vwyz abdeg hijkl mnopr stuvw"])
    assert made.vocabulary
    assert [call.read for call in subject.guard.calls] == [False, True]
    assert "tok_ties_to_the_larger_ids" in names(subject.guard)


def test_the_snippet_of_a_failure_runs_as_it_is_printed():
    """Pasted into a file, it imports what it needs, makes the calls again, and says what they returned."""
    subject = Subject(reference.__name__)
    subject.cross_entropy(LOGITS, TARGETS, MASK)
    *_, call, returned = lines = snippet(subject.name, subject.guard.calls)
    exec("\n".join(lines), {})
    assert call.startswith("me.cross_entropy(np.array(")
    assert returned.startswith("# -> (")


# ---- the guard, under the diagnosis


@dataclass(slots=True)
class Slotted:
    """A batch without a __dict__."""

    input: np.ndarray


class Iterator:
    """Legal, but for its epoch."""

    def next_batch(self):
        return Slotted(np.arange(3))

    @property
    def epoch(self):
        raise ValueError("no epoch yet")


def test_a_batch_with_slots_is_legal():
    made = Guard().function("data_iterator", Iterator)()
    assert made.next_batch().input.tolist() == made.next_batch().input.tolist() == [0, 1, 2]


def test_an_attribute_that_raises_is_a_call_that_raises():
    made = Guard().function("data_iterator", Iterator)()
    with pytest.raises(Misbehaviour, match=r"SUBJ-05: data_iterator.epoch raised ValueError: no epoch yet"):
        _ = made.epoch


def test_a_function_that_exits_does_not_end_the_session():
    with pytest.raises(Misbehaviour, match="SUBJ-05: gelu raised SystemExit"):
        Guard().function("gelu", lambda x: sys.exit(1))(np.ones(2))
