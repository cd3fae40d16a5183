"""Known mistakes of real loops, each a small override of the law: what an update that is wrong is compared with.

They give a failure its name ("behaves like: ..."). They decide nothing: a loop that is wrong in a way that is not here
is refused all the same.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from gates.judge.replay import After, Gradient, Law, differentiate, dropout_of_step, replay_plainly
from gates.judge.run_record import Batch, Settings, State, TrainingPlan
from gates.judge.within_bounds import behaves_like
from honestloop.conventions import Conventions
from reference import clipping, model


class NoDropout(Law):
    says = "no dropout"

    def drop(self, plan: TrainingPlan, update: int) -> model.Dropout:
        return model.no_dropout


class FirstMasks(Law):
    """Only with the masks of the specification, which have a value for a batch of any shape."""

    says = "the dropout masks of the first step"

    def applies(self, plan: TrainingPlan, update: int) -> bool:
        return not plan.declared.own_generator

    def drop(self, plan: TrainingPlan, update: int) -> model.Dropout:
        return dropout_of_step(plan.settings, 0)


class LaterMasks(FirstMasks):
    says = "the dropout masks of a later step"

    def drop(self, plan: TrainingPlan, update: int) -> model.Dropout:
        return dropout_of_step(plan.settings, update)


class Padding(Law):
    says = "training on the padding too"

    def batch(self, plan: TrainingPlan, update: int) -> Batch:
        tokens, target, real, key_mask = super().batch(plan, update)
        return tokens, target, np.ones_like(real), key_mask


class NextBatch(Law):
    says = "the batch after it"

    def applies(self, plan: TrainingPlan, update: int) -> bool:
        return self._same_shape(plan, update, update + 1)

    @staticmethod
    def _same_shape(plan: TrainingPlan, update: int, other: int) -> bool:
        """Whether the other batch is known, and declared masks fit it."""
        if other > len(plan.batches):
            return False
        shapes = {plan.batches[one - 1][1][0].shape for one in (update, other)}
        return not plan.declared.own_generator or len(shapes) == 1

    def batch(self, plan: TrainingPlan, update: int) -> Batch:
        return plan.batches[update][1]


class SameBatch(NextBatch):
    says = "the batch before it once more"

    def applies(self, plan: TrainingPlan, update: int) -> bool:
        return self._same_shape(plan, update, max(update - 1, 1))

    def batch(self, plan: TrainingPlan, update: int) -> Batch:
        return plan.batches[max(update - 2, 0)][1]


class FirstOrder(NextBatch):
    says = "the order of the first epoch"

    def applies(self, plan: TrainingPlan, update: int) -> bool:
        return self._same_shape(plan, update, (update - 1) % plan.epoch_length + 1)

    def batch(self, plan: TrainingPlan, update: int) -> Batch:
        return plan.batches[(update - 1) % plan.epoch_length][1]


class GradientKept(Law):
    """Only after the first update, whose clipped gradient can be told from the first moment."""

    says = "a gradient that is not zeroed after the update before"

    def gradient(self, found: Gradient, before: State, update: int, o: Mapping[str, float]) -> Gradient:
        return {name: g + before.m[name] / (1.0 - o["beta1"]) for name, g in found.items()}


class SummedLoss(Law):
    says = "the sum of the losses instead of their mean"

    def clip(self, found: list[Any], norm: Any, limit: float, how: Conventions) -> list[Any]:
        return super().clip([g * 1e6 for g in found], norm * 1e6, limit, how)


class NoClipping(Law):
    says = "no clipping, or clipping after the update"

    def clip(self, found: list[Any], norm: Any, limit: float, how: Conventions) -> list[Any]:
        return found


class EachTensorClipped(Law):
    says = "each tensor clipped by itself"

    def clip(self, found: list[Any], norm: Any, limit: float, how: Conventions) -> list[Any]:
        return [
            super(EachTensorClipped, self).clip([g], clipping.global_norm([g]), limit, how)[0] for g in found
        ]


class NoMoments(Law):
    says = "moments that start again from zero"

    def moments(self, before: State, name: str) -> tuple[Any, Any]:
        return np.zeros_like(before.m[name]), np.zeros_like(before.v[name])


class RateBefore(Law):
    says = "the rate of the update before"

    def rate(self, settings: Settings, update: int) -> float:
        return settings.rate(update - 1) if update > 1 else 0.0


class RateAfter(Law):
    says = "the rate of the update after"

    def applies(self, plan: TrainingPlan, update: int) -> bool:
        return update < plan.settings.steps

    def rate(self, settings: Settings, update: int) -> float:
        return settings.rate(update + 1)


class DecayOfEverything(Law):
    says = "weight decay of biases and LayerNorm parameters too"

    def decays(self, name: str) -> bool:
        return True


class NoDecay(Law):
    says = "no weight decay"

    def decays(self, name: str) -> bool:
        return False


class DecayWithoutRate(Law):
    says = "weight decay that is not multiplied by the rate"

    def step(self, p: Any, g: Any, m: Any, v: Any, *, t: int, lr: Any, wd: Any, o: Mapping[str, Any]) -> Any:
        return super().step(p, g, m, v, t=t, lr=lr, wd=wd / lr, o=o)


class L2(Law):
    says = "L2 regularisation: decay added to the gradient instead of decoupled"

    def step(self, p: Any, g: Any, m: Any, v: Any, *, t: int, lr: Any, wd: Any, o: Mapping[str, Any]) -> Any:
        return super().step(p, g + wd * p, m, v, t=t, lr=lr, wd=0.0, o=o)


class EarlyEpsilon(Law):
    says = "epsilon added before the bias correction"

    def applies(self, plan: TrainingPlan, update: int) -> bool:
        return plan.declared.conventions.eps == "after correction"

    def step(self, p: Any, g: Any, m: Any, v: Any, *, t: int, lr: Any, wd: Any, o: Mapping[str, Any]) -> Any:
        late = {**o, "eps": o["eps"] / np.sqrt(1.0 - o["beta2"] ** t)}
        return super().step(p, g, m, v, t=t, lr=lr, wd=wd, o=late)


class NoCorrection(Law):
    says = "no bias correction"

    def step(self, p: Any, g: Any, m: Any, v: Any, *, t: int, lr: Any, wd: Any, o: Mapping[str, Any]) -> Any:
        return super().step(p, g, m, v, t=10**6, lr=lr, wd=wd, o=o)


class FirstCount(Law):
    says = "bias correction that starts again: t is 1"

    def step(self, p: Any, g: Any, m: Any, v: Any, *, t: int, lr: Any, wd: Any, o: Mapping[str, Any]) -> Any:
        return super().step(p, g, m, v, t=1, lr=lr, wd=wd, o=o)


class CountAhead(Law):
    says = "bias correction of the update after: t is one too high"

    def step(self, p: Any, g: Any, m: Any, v: Any, *, t: int, lr: Any, wd: Any, o: Mapping[str, Any]) -> Any:
        return super().step(p, g, m, v, t=t + 1, lr=lr, wd=wd, o=o)


MISTAKES: tuple[Law, ...] = (
    GradientKept(),
    SummedLoss(),
    NoClipping(),
    EachTensorClipped(),
    NoMoments(),
    RateBefore(),
    RateAfter(),
    DecayOfEverything(),
    NoDecay(),
    DecayWithoutRate(),
    L2(),
    EarlyEpsilon(),
    NoCorrection(),
    FirstCount(),
    CountAhead(),
    # These have gradients of their own, which take longer than all the rest.
    NoDropout(),
    FirstMasks(),
    LaterMasks(),
    Padding(),
    NextBatch(),
    SameBatch(),
    FirstOrder(),
)


def name_mistake(plan: TrainingPlan, update: int, before: State, left: State, expected: After) -> str:
    """What an update that is wrong behaves like, in words; "" if like none of these."""
    usual = differentiate(plan, update, before, Law())
    for mistake in (mistake for mistake in MISTAKES if mistake.applies(plan, update)):
        kind = type(mistake)
        same = kind.batch is Law.batch and kind.drop is Law.drop
        with np.errstate(all="ignore"):
            found = replay_plainly(plan, update, before, mistake, usual if same else None)
        if behaves_like(left, found, expected):
            return mistake.says
    return ""
