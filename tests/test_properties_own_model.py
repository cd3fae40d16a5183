"""A loop with its own model: what a stranger may leave out, declare or make himself, and how near the noise comes."""

from typing import Any

import numpy as np
import pytest

from fixtures.own_trainer_strategies import token_batch
from fixtures.subjects.small_transformer import SmallTransformer
from honestloop.conventions import Conventions
from honestloop.protocol import Subject
from properties.assertions import Refusal
from properties.checks import all_properties
from properties.grading import Grading, Status
from properties.property_record import Record
from properties.strength import profile
from reference import measured_noise
from reference.measured_noise import Outcome

OWN = {name: prop for name, prop in all_properties().items() if "own_trainer" in prop.functions}
SETTINGS = {"seed": 1, "dtype": "float64", "dropout": 0.0, "recompute": False}


def statuses(trainer, conventions=None, examples=2):
    """What became of each property of a subject that offers this trainer alone."""
    subject = Subject.of("own", {"own_trainer": trainer}, conventions or Conventions())
    grading = Grading(subject)
    found = {}
    for name, prop in OWN.items():
        outcome = grading.before(prop, {})
        if outcome is None:
            with grading.attempt(prop, Record(examples)) as tried:
                prop.runnable(profile(examples, shrink=False))(subject=subject)
            outcome = tried.outcome
        found[name.partition("::test_")[2]] = outcome.status
    return found


class Small:
    """The least that a loop must have: it hands on to another, which is not shown."""

    def __init__(self, settings):
        self._loop: Any = SmallTransformer(settings)
        self.train: Any = self._loop.train
        self.loss: Any = self._loop.loss
        self.set_parameters = self._loop.set_parameters
        self.parameters = self._loop.parameters  # type: ignore[method-assign]

    def parameters(self):
        found = self._loop.parameters()
        del found["head"]
        return found


class Least(Small):
    def __init__(self, settings):
        super().__init__(settings)
        self.vocab, self.context = SmallTransformer.vocab, SmallTransformer.context
        self.parameters = lambda: Small.parameters(self)  # type: ignore[method-assign]


class OwnBatches(Least):
    """Its batches are objects that only it can read."""

    def __init__(self, settings):
        super().__init__(settings)
        del self.vocab
        self.train = lambda batches, n: self._loop.train([b["rows"] for b in batches], n)
        self.loss = lambda batch: self._loop.loss(batch["rows"])

    def batch(self, rows):
        return {"rows": token_batch(SmallTransformer.vocab, rows)}


def test_the_least_is_judged_and_what_is_left_out_is_not_offered():
    found = statuses(Least)
    left_out = {name for name, status in found.items() if status == Status.NOT_OFFERED}
    assert left_out == {
        "a_run_goes_on_from_its_checkpoint",
        "tied_weights_stay_tied",
        "recomputation_changes_nothing",
        "gradients_are_those_of_the_loss",
        "an_update_uses_the_gradient_of_the_loss",
        "the_step_is_that_of_its_moments",
    }
    assert {found[name] for name in found.keys() - left_out} == {Status.HOLDS}


def test_a_loop_makes_its_own_batches():
    found = statuses(OwnBatches)
    assert found["micro_batches_make_the_update_of_the_batch"] == Status.HOLDS
    assert found["a_row_alone_is_a_row_among_longer_ones"] == Status.HOLDS
    assert found["no_prediction_depends_on_a_later_token"] == Status.NOT_OFFERED
    assert Status.BROKEN not in found.values()


class MeanOfMeans(SmallTransformer):
    """Each micro-batch weighs the same, as is declared."""

    reduction = "batches"

    def gather(self, window):
        parts = [super(MeanOfMeans, self).gather([batch]) for batch in window]
        means = {n: np.mean([g[n] for _, g in parts], axis=0).astype(self.dtype) for n in self.params}
        return float(np.mean([loss for loss, _ in parts])), means


def test_the_mean_of_means_may_be_declared():
    found = statuses(MeanOfMeans)
    assert found["every_predicted_token_weighs_the_same"] == Status.NOT_OFFERED
    assert found["micro_batches_make_the_update_of_the_batch"] == Status.HOLDS
    assert Status.BROKEN not in found.values()


class FullRows(SmallTransformer):
    full = True


class Frozen(SmallTransformer):
    """One matrix is not trained, as is declared."""

    frozen = ("block_0.ffn.W_1",)

    def gradients(self, batch):
        found = super().gradients(batch)
        return {name: g for name, g in found.items() if name not in self.frozen}

    def step(self, gradients, lr):
        kept = {name: (self.params[name], self.m[name], self.v[name]) for name in self.frozen}
        super().step(gradients, lr)
        for name, (p, m, v) in kept.items():
            self.params[name], self.m[name], self.v[name] = p, m, v

    def moments(self):
        found = super().moments()
        return {"t": found["t"]} | {
            kind: {name: x for name, x in found[kind].items() if name not in self.frozen} for kind in "mv"
        }


@pytest.mark.parametrize("trainer", [FullRows, Frozen])
def test_declared_domains_and_frozen_parameters_are_accepted(trainer):
    assert Status.BROKEN not in statuses(trainer).values()


def test_a_loop_in_single_precision_is_judged_without_a_loss_in_double():
    found = statuses(SmallTransformer, Conventions(dtypes="float32"))
    assert found["gradients_are_those_of_the_loss"] == Status.NOT_OFFERED
    assert Status.BROKEN not in found.values()


def test_what_is_no_reduction_is_refused():
    wrong = type("Wrong", (SmallTransformer,), {"reduction": "sum"})
    assert Status.BROKEN in statuses(wrong).values()


def test_noise_is_measured_and_grows_with_the_unit_roundoff():
    def run(values):
        return Outcome([float((values["w"] ** 2).sum())], {"w": values["w"] * values["w"].dtype.type(3)})

    found: dict[Any, Any] = {}
    for kind in (np.float32, np.float64):
        weights = {"w": np.random.default_rng(0).standard_normal(50).astype(kind)}
        noise = measured_noise.measured(run, weights)
        unit = np.finfo(kind).eps / 2
        found[kind] = float(noise.losses.bound[0]) / unit, noise.norms["w"] / unit
        assert noise.apart(noise.tensors)["w"] == 0.0
        assert noise.apart({"w": np.full(50, np.nan)})["w"] == np.inf
        nudges: Any = [measured_noise.nudged(weights, seed)["w"] for seed in range(2)]
        assert nudges[0].dtype == kind and not np.array_equal(*nudges)
        assert np.allclose(np.abs(nudges[0] / weights["w"] - 1), 2 * unit, rtol=0.6, atol=0)
    for a, b in zip(*found.values(), strict=True):
        assert 0.2 < a / b < 5


def test_a_refusal_names_the_rule():
    class Twice(SmallTransformer):
        def gather(self, window):
            loss, gradients = super().gather(window)
            return loss * len(window), gradients

    subject = Subject.of("own", {"own_trainer": Twice}, Conventions())
    prop = OWN["test_own_trainer.py::test_micro_batches_make_the_update_of_the_batch"]
    with pytest.raises(Refusal, match="INV-01"):
        prop.example(subject=subject, seed=1, rows=[(1, 3), (2, 3), (3, 3), (4, 3)], parts=2)
