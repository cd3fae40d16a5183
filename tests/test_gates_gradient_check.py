"""A gradient, recovered from float32 moments, against the loss's own differences: what is accepted, and what is not."""

import math

import numpy as np
import pytest

from gates.judge import gradient_check
from gates.subject.model_runs import JudgedUpdate
from reference import central_differences, clipping
from reference.arithmetic import DOUBLE, SINGLE
from reference.central_differences import NotInDouble
from reference.loss import token_nll
from reference.unclipped_gradient import unclipped
from tests import small_language_model as small

BETA1 = 0.9
BATCHES = [small.batch(seed) for seed in (1, 2)]


def scaled(g, by, name=None):
    return {n: x * np.float32(by if n == name or name is None else 1) for n, x in g.items()}


def of_both(w):
    """The mean over the tokens of two micro-batches: what is right."""
    counts = [mask.sum() for _, _, mask in BATCHES]
    parts = [small.gradient(w, *rows) for rows in BATCHES]
    return {n: sum(c * p[n] for c, p in zip(counts, parts, strict=True)) / sum(counts) for n in w}


def loss_of_both(w):
    counts = [int(mask.sum()) for _, _, mask in BATCHES]
    return sum(c * small.loss(w, *rows) for c, rows in zip(counts, BATCHES, strict=True)) / sum(counts)


def update(
    make=of_both, *, loss=loss_of_both, max_norm=None, log_norm=True, clip="exact", dtype=np.float32, seed=1
):
    """What the gate would have of one update, whose gradient is `make(weights)`."""
    w = small.weights(seed, dtype)
    g = make(w)
    norm = float(clipping.global_norm(list(g.values())))
    clipped, _ = clipping.clip_by_global_norm(list(g.values()), max_norm or math.inf, clip=clip)
    kept = dict(zip(g, clipped, strict=True))
    chance = np.random.default_rng(seed)
    m = {n: (chance.normal(0, 1, x.shape) * np.abs(x).max()).astype(dtype) for n, x in g.items()}
    after = {n: (dtype(BETA1) * x + dtype(1 - BETA1) * kept[n]).astype(dtype) for n, x in m.items()}
    gradient = unclipped(
        m,
        after,
        beta1=BETA1,
        unit=SINGLE if dtype == np.float32 else DOUBLE,
        max_norm=max_norm,
        norm=norm if log_norm else None,
        clip=clip,
    )
    wide = {n: x.astype(np.float64) for n, x in w.items()}

    def losses(asked):
        return [loss(x) for x in asked]

    line = {"step": 7, "loss": float(np.float32(loss_of_both(wide)))}
    try:
        at = central_differences.loss_at(losses, wide, gradient)
        found = central_differences.compare(losses, wide, gradient, at.noise, seed)
        return JudgedUpdate(7, line, at, found)
    except NotInDouble as error:
        return JudgedUpdate(7, line, None, [], str(error))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(12))
def test_a_right_gradient_is_accepted(seed, dtype):
    found = update(seed=seed, dtype=dtype)
    assert gradient_check.gradients([found]).passed
    assert gradient_check.logged_losses([found], SINGLE).passed
    assert len(found.comparisons) == 1 + 3 + 3


@pytest.mark.parametrize("clip", ["exact", "torch", "optax", "cs336"])
@pytest.mark.parametrize("max_norm", [1e-2, 1e2])
def test_clipping_is_undone_by_the_logged_norm(clip, max_norm):
    assert gradient_check.gradients([update(max_norm=max_norm, clip=clip)]).passed


def test_a_clipped_gradient_without_its_norm_is_no_evidence():
    with pytest.raises(ValueError, match="it was clipped, and its norm before"):
        update(max_norm=1e-2, log_norm=False)
    assert gradient_check.gradients([update(max_norm=1e2, log_norm=False)]).passed


def test_the_wrong_convention_of_clipping_is_a_wrong_length():
    """The length is off by 1e-6 / norm of it: no more than the rounding of a float32 gradient here, but 1 % is seen."""
    finding = gradient_check.gradients([update(lambda w: scaled(of_both(w), 1.01), max_norm=1e-2)])
    assert not finding.passed


def row_lost(w):
    g = of_both(w)
    g["E"] = g["E"] * (np.arange(small.VOCAB) != 3)[:, None]
    return g


def mean_of_means(w):
    parts = [small.gradient(w, *rows) for rows in BATCHES]
    return {n: (parts[0][n] + parts[1][n]) / 2 for n in w}


def not_zeroed(w):
    earlier = small.gradient(w, *small.batch(9))
    return {n: x + earlier[n] for n, x in of_both(w).items()}


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda w: scaled(of_both(w), 0.9, "W"), "the gradient of W is 0.9 times that of the loss"),
        (lambda w: scaled(of_both(w), 0.999, "P"), "the gradient of P is 0.999 times that of the loss"),
        (lambda w: scaled(of_both(w), 2), "the gradient is 2 times that of the loss"),
        (lambda w: scaled(of_both(w), -1), "the gradient is -1 times that of the loss"),
        (lambda w: scaled(of_both(w), 0, "E"), "the gradient of E is 0 times that of the loss"),
        (row_lost, "the gradient of E is"),
        (mean_of_means, "the gradient is not that of the loss"),
        (not_zeroed, "the gradient is not that of the loss"),
        (lambda w: small.gradient(w, *BATCHES[1]), "the gradient is not that of the loss"),
    ],
    ids="scaled a-thousandth doubled negated nothing a-row mean-of-means not-zeroed last-micro-batch".split(),
)
@pytest.mark.parametrize("seed", range(3))
def test_a_wrong_gradient_is_refused_in_words(make, says, seed):
    finding = gradient_check.gradients([update(make, seed=seed)])
    assert not finding.passed
    assert says in finding.message
    assert "OWN-09" in finding.message


def float32_number(w):
    return float(np.float32(loss_of_both(w)))


def float32_inside(w):
    narrow = {n: x.astype(np.float32) for n, x in w.items()}
    return float(np.mean([np.float64(small.loss(narrow, *rows)) for rows in BATCHES]))


def float32_logits(w):
    tokens, targets, mask = BATCHES[0]
    nll = token_nll(small.logits(w, tokens).astype(np.float32).astype(np.float64), targets)
    return float((nll * mask).sum() / mask.sum())


class Dropped:
    def __init__(self):
        self.chance = np.random.default_rng(1)

    def __call__(self, w):
        return loss_of_both(w) * (1 + self.chance.normal() / 10)


@pytest.mark.parametrize(
    ("loss", "says"),
    [
        (float32_number, "the loss is a float32 number"),
        (float32_inside, "it is not computed in float64"),
        (float32_logits, "it is not computed in float64"),
        (Dropped(), "is dropout on?"),
        (lambda w: math.nan, "it is not finite there"),
    ],
    ids=["answer", "weights", "logits", "dropout", "nan"],
)
def test_a_loss_of_which_no_difference_can_be_taken_is_refused_in_one_line(loss, says):
    found = update(loss=loss)
    for finding in (gradient_check.gradients([found]), gradient_check.logged_losses([found], SINGLE)):
        assert not finding.passed
        assert says in finding.message
        assert "\n" not in finding.message


def test_another_loss_than_the_logged_one_is_refused_and_says_which_of_the_two_was_trained_on():
    def of_one(w):
        return small.loss(w, *BATCHES[1])

    other = gradient_check.logged_losses([update(loss=of_one)], SINGLE)
    assert not other.passed
    assert "the loss verb does not give the logged loss" in other.message
    assert "not of these rows either" in other.message
    right = update()
    logged = JudgedUpdate(7, {**right.line, "loss": right.line["loss"] + 1e-4}, right.at, right.comparisons)
    assert (
        "the gradient is of these rows, another number is logged"
        in gradient_check.logged_losses([logged], SINGLE).message
    )
    assert not gradient_check.logged_losses([JudgedUpdate(7, {"step": 7}, right.at, [])], SINGLE).passed
    two = JudgedUpdate(7, {**right.line, "rows": [1, 2]}, right.at, right.comparisons, other_rows=[2, 3])
    assert (
        "the log and the verb `rows` name other rows" in gradient_check.logged_losses([two], SINGLE).message
    )


def test_a_tensor_whose_gradient_is_rounding_alone_is_no_mistake():
    """A bias that a softmax takes away again: its gradient is 0, and what float32 leaves of it."""

    def with_bias(w):
        return {**w, "b": np.zeros(4, np.float32)}

    w = with_bias(small.weights())
    g = {**of_both(w), "b": np.full(4, 3e-9, np.float32)}
    gradient = unclipped(
        {n: np.zeros_like(x) for n, x in g.items()},
        {n: x * np.float32(0.1) for n, x in g.items()},
        beta1=0.9,
        unit=SINGLE,
    )
    wide = {n: x.astype(np.float64) for n, x in w.items()}

    def losses(asked):
        return [loss_of_both(x) for x in asked]

    at = central_differences.loss_at(losses, wide, gradient)
    found = central_differences.compare(losses, wide, gradient, at.noise, 1)
    assert gradient_check.gradients([JudgedUpdate(7, {}, at, found)]).passed


def test_the_smallest_scale_that_is_seen():
    """One tensor of three is refused when it is off by 4e-5 of itself; at 1e-7, below the rounding, it is not."""
    assert not gradient_check.gradients([update(lambda w: scaled(of_both(w), 1 + 1e-3, "P"))]).passed
    assert not gradient_check.gradients([update(lambda w: scaled(of_both(w), 1 + 4e-5, "P"))]).passed
    assert gradient_check.gradients([update(lambda w: scaled(of_both(w), 1 + 1e-7, "P"))]).passed
