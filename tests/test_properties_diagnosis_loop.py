"""What a diagnosis says of a loop alone: a convention, a mistake in a function it calls, a number, or the place."""

from dataclasses import replace

import numpy as np
import pytest

from fixtures.diagnosis_words import Place
from fixtures.loop_strategies import micro_batch, parameters
from fixtures.mutants import MUTANTS
from fixtures.mutants.lifted import READINGS, lifted
from fixtures.subjects import reference
from fixtures.subjects.loop_variants import VARIANTS, accumulate_is_a_setting
from honestloop.conventions import Conventions
from honestloop.guard import Raised
from honestloop.protocol import Subject
from properties.diagnosis import budget, diagnose, probes
from properties.diagnosis.candidate import suspects
from properties.diagnosis.quantities import compared
from properties.diagnosis.solving import decimals, factors
from reference.training import Trainer

LAW = Conventions()
OWN = replace(LAW, generator="own")
SETTINGS = probes.PLAIN | {"weight_decay": 0.1, "floor": 0.05, "total": 9, "eps": 0.01, "max_norm": 0.1}


def subject_of(loop, conventions=LAW, behaves=LAW):
    """A subject of this loop alone, which declares some conventions and follows others."""

    def make(params, settings):
        return loop(params, settings, **reference.loop_conventions(behaves))

    return Subject.of("loop", {"trainer": make}, conventions)


def said_of(loop, conventions=LAW, behaves=LAW, dropout=0.0, **more):
    """The diagnosis of two passes over three micro-batches."""
    subject = subject_of(loop, conventions, behaves)
    rng = np.random.default_rng(5)
    params, batches = parameters(rng, 5, 3), [micro_batch(rng, 5, 2, 3) for _ in range(3)]
    trainer = subject.trainer(params, SETTINGS | {"dropout": dropout})
    for _ in range(2):
        trainer.train(batches, 2)
        trainer.parameters()
    return diagnose(list(subject.guard.calls), (), conventions, subject=subject, **more)


# ---- the probes, of loops that are right


@pytest.mark.parametrize(
    "conventions",
    [
        LAW,
        replace(LAW, decay="after", eps="before correction", schedule="huggingface", clip="torch"),
        replace(LAW, decay="with", schedule="linear", clip="cs336", dtypes="float32"),
        replace(OWN, schedule="constant", clip="optax"),
    ],
)
def test_nothing_is_wrong_in_any_probe_of_a_right_loop(conventions):
    subject = subject_of(Trainer, conventions, conventions)
    seen = {name: compared(calls, conventions).wrong for name, calls in probes.runs(subject)}
    assert seen.keys() == probes.PROBES.keys() - (probes.MASKED if conventions.generator == "own" else ())
    assert not any(seen.values())


def test_a_right_loop_is_not_diagnosed():
    assert said_of(Trainer).lines == ()


# ---- conventions


@pytest.mark.parametrize(
    "changed",
    [
        {"decay": "after"},
        {"eps": "before correction"},
        {"schedule": "constant"},
        {"schedule": "linear"},
        {"clip": "cs336"},
        {"decay": "after", "schedule": "linear"},
    ],
)
def test_a_convention_that_is_not_declared_is_told_before_any_mistake(changed):
    said = said_of(Trainer, behaves=replace(LAW, **changed))
    assert changed in (said.conventions, *said.or_else)
    assert said.names == ()
    assert f"{next(iter(changed))} = {next(iter(changed.values()))!r}" in said.lines[0]


# ---- mistakes of functions, of a loop that is all there is


class InAnotherOrder(Trainer):
    """L2 in the gradient, in operations of its own: within bounds of the textbook's, not the same bytes."""

    def step(self, name, gradient, lr):
        s = self.settings
        self.t[name] += 1
        g = gradient + self.decay(name) * self.params[name]
        self.m[name] = self.m[name] + (1.0 - s["beta1"]) * (g - self.m[name])
        self.v[name] = self.v[name] + (1.0 - s["beta2"]) * (g * g - self.v[name])
        root = np.sqrt(self.v[name]) / np.sqrt(1.0 - s["beta2"] ** self.t[name])
        size = lr / (1.0 - s["beta1"] ** self.t[name])
        self.params[name] = self.params[name] - size * self.m[name] / (root + s["eps"])


@pytest.mark.parametrize("conventions", [LAW, OWN])
def test_a_mistake_in_a_function_is_named_in_other_arithmetic_and_under_any_generator(conventions):
    assert said_of(InAnotherOrder, conventions).names == ("opt_l2_instead_of_decay",)


class OwnMasks(InAnotherOrder):
    """Masks from a generator of its own."""

    def kept(self, shape, first_row):
        rng = np.random.default_rng([self.settings["seed"] % 2**32, self.updates, first_row])
        return rng.random((*shape, self.params["E"].shape[1])) >= self.settings["dropout"]


def test_masks_of_an_own_generator_do_not_hide_a_mistake():
    """The example with dropout has no oracle; the others do."""
    subject = subject_of(OwnMasks, OWN)
    rng = np.random.default_rng(5)
    params, batches = parameters(rng, 5, 3), [micro_batch(rng, 5, 2, 3) for _ in range(3)]
    for dropout in (0.5, 0.0):
        trainer = subject.trainer(params, SETTINGS | {"dropout": dropout})
        trainer.train(batches, 2)
        trainer.parameters()
    said = diagnose(list(subject.guard.calls), (), OWN, subject=subject)
    assert said.names == ("opt_l2_instead_of_decay",)


class WithMore(InAnotherOrder):
    """A record that says more than the protocol asks for."""

    def update(self, window):
        return super().update(window) | {"seconds": 0.25, "tokens_per_second": 12.0}


class WithLess(InAnotherOrder):
    """A record that does not say the norm."""

    def update(self, window):
        record = super().update(window)
        del record["grad_norm"]
        return record


@pytest.mark.parametrize("loop", [WithMore, WithLess])
def test_other_fields_of_a_record_silence_nothing(loop):
    assert said_of(loop).names == ("opt_l2_instead_of_decay",)


def test_every_reading_of_a_lifted_mutant_is_a_loop():
    functions = {mutant.function for mutant in MUTANTS.values()}
    assert set(READINGS) <= functions
    names = [one.name for one in suspects("trainer", LAW)]
    for name in ("opt_no_eps", "clip_values", "loss_mean_over_positions", "rng_no_dropout"):
        assert name in names
    assert len(lifted(MUTANTS["loss_mean_over_positions"], LAW)) == len(READINGS["cross_entropy"])
    assert lifted(MUTANTS["data_not_shuffled"], LAW) == ()


# ---- numbers


def with_settings(**change):
    class Changed(Trainer):
        def __init__(self, params, settings, **conventions):
            new = {key: f(settings[key]) for key, f in change.items()}
            super().__init__(params, dict(settings) | new, **conventions)

    return Changed


class TenthOfTheRate(Trainer):
    def step(self, name, gradient, lr):
        super().step(name, gradient, 0.1 * lr)


class TwiceTheLogits(Trainer):
    def token_losses(self, logits, targets):
        return super().token_losses(2.0 * logits, targets)

    def logit_gradients(self, logits, targets):
        return 2.0 * super().logit_gradients(2.0 * logits, targets)


NUMBERS = {
    "rate x 0.1": TenthOfTheRate,
    "decay x 2": with_settings(weight_decay=lambda w: 2.0 * w),
    "decay = 0.03": with_settings(weight_decay=lambda _: 0.03),
    "epsilon = 0.002": with_settings(eps=lambda _: 0.002),
    "epsilon x 3": with_settings(eps=lambda e: 3.0 * e),
    "limit of the norm x 2": with_settings(max_norm=lambda c: 2.0 * c),
    "beta1 = 0.7": with_settings(beta1=lambda _: 0.7),
    "beta2 = 0.8": with_settings(beta2=lambda _: 0.8),
    "logits x 2": TwiceTheLogits,
}


@pytest.mark.parametrize("number", NUMBERS)
def test_a_number_is_solved_for(number):
    said = said_of(NUMBERS[number])
    assert said.number == number
    assert said.place is None
    assert f"another number: {number}," in said.lines[0]


def test_what_is_solved_stands_for_a_short_number():
    assert decimals(0.1 + 1e-12)[0] == 0.1
    assert decimals(1.0 / 255.0)[0] == 1.0 / 255.0
    assert decimals(1.0 + 1e-12) == [1.0]
    assert factors(1.0 + 1e-12) == decimals(float("nan")) == []


# ---- the place


class Adamax(Trainer):
    """The largest gradient in place of the second moment."""

    def step(self, name, gradient, lr):
        s = self.settings
        self.t[name] += 1
        self.params[name] = self.params[name] * (1.0 - lr * self.decay(name))
        self.m[name] = s["beta1"] * self.m[name] + (1.0 - s["beta1"]) * gradient
        self.v[name] = np.maximum(s["beta2"] * self.v[name], np.abs(gradient))
        first = self.m[name] / (1.0 - s["beta1"] ** self.t[name])
        self.params[name] = self.params[name] - lr * first / (self.v[name] + s["eps"])


class OtherLoss(Trainer):
    def token_losses(self, logits, targets):
        return super().token_losses(logits, targets) ** 2


class LogsAnother(Trainer):
    def update(self, window):
        record = super().update(window)
        return record | {"loss": record["loss"] + 0.1 * self.updates}


class NoisyGradient(Trainer):
    def token_mean(self, sums):
        loss, gradients = super().token_mean(sums)
        return loss, {
            name: g + 0.01 * np.sin(np.arange(g.size)).reshape(g.shape) for name, g in gradients.items()
        }


class MatrixStays(Trainer):
    def step(self, name, gradient, lr):
        if name != "W":
            super().step(name, gradient, lr)


class RefusesNothing(Trainer):
    def refuse(self, loss, norm):
        pass


class HalfTheSquares(Trainer):
    def evaluate(self, batches):
        return super().evaluate(batches) ** 2


class ForgetsHalf(Trainer):
    def restore(self, state):
        super().restore(state)
        self.m["W"] = self.m["W"] / 2.0


PLACES = {
    Place.SECOND_MOMENT: Adamax,
    Place.LOG: LogsAnother,
    Place.GRADIENT: NoisyGradient,
    Place.PARAMETERS: MatrixStays,
    Place.EVALUATION: HalfTheSquares,
    Place.CHECKPOINT: ForgetsHalf,
}


@pytest.mark.parametrize("place", PLACES)
def test_else_the_first_wrong_quantity_is_told(place):
    subject = subject_of(PLACES[place])
    calls = next(calls for name, calls in probes.runs(subject) if compared(calls, LAW).wrong and name)
    said = diagnose(calls, (), LAW, subject=subject)
    assert said.place == place
    assert said.names == ()
    assert f"this quantity: {place};" in said.lines[0]


# ---- conventions of how a loop is called


def test_a_mistake_of_a_loop_that_takes_accumulate_as_a_setting_is_named():
    """`accumulate = "setting"`: train takes the micro-batches alone, as Accelerate's guide writes it."""
    setting = replace(LAW, accumulate="setting")
    subject = subject_of(accumulate_is_a_setting(MUTANTS["loop_divided_twice"].written), setting)
    rng = np.random.default_rng(5)
    params, batches = parameters(rng, 5, 3), [micro_batch(rng, 5, 2, 3) for _ in range(3)]
    trainer = subject.trainer(params, SETTINGS | {"accumulate": 2})
    trainer.train(batches)
    trainer.parameters()
    said = diagnose(list(subject.guard.calls), (), setting, subject=subject)
    assert "loop_divided_twice" in said.names


@pytest.mark.parametrize(
    ("key", "value"), [("accumulate", "setting"), ("domain", "full equal unmasked micro-batches")]
)
def test_nothing_is_wrong_in_any_probe_of_a_right_loop_that_is_called_in_its_own_way(key, value):
    conventions = replace(LAW, **{key: value})
    as_read = replace(conventions, accumulate="argument")
    for name, calls in probes.runs(subject_of(VARIANTS[key, value](Trainer), conventions)):
        assert all(len(call.args) == 2 for call in calls if call.method == "train"), name
        raised = [call for call in calls if isinstance(call.result, Raised)]
        assert not raised or name == probes.REFUSED, name
        assert not compared(calls, as_read).wrong, name


# ---- more than one mistake fits


def test_that_several_mistakes_fit_is_said():
    said = said_of(lifted(MUTANTS["opt_no_decay"], LAW)[0])
    assert {"opt_no_decay", "opt_nothing_decays"} <= set(said.names)
    assert any("cannot tell them apart" in line for line in said.lines)


def test_a_new_example_tells_two_mistakes_apart():
    """One micro-batch a window: the sum over the tokens of the window is that over the tokens of each."""
    mutant = MUTANTS["loop_divided_twice"]
    subject = subject_of(mutant.written)
    rng = np.random.default_rng(5)
    params, batches = parameters(rng, 5, 3), [micro_batch(rng, 5, 2, 3) for _ in range(2)]

    def asked(accumulate):
        subject.guard.forget()
        subject.trainer(params, SETTINGS).train(batches, accumulate)
        return list(subject.guard.calls)

    failing = asked(2)
    alone = diagnose(failing, (), LAW)
    told = diagnose(failing, (), LAW, fresh=lambda seed: [asked(1)], subject=subject)
    assert mutant.id in told.names
    assert len(told.mutants) <= len(alone.mutants)


def test_the_time_is_bounded(monkeypatch):
    monkeypatch.setattr(budget.Budget.__init__, "__defaults__", (-1.0,))
    said = said_of(InAnotherOrder)
    assert said.out_of_time
    assert "ran out" in said.lines[-1]
