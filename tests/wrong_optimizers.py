"""AdamW in NumPy with one mistake each: the check that refuses it, its words, the least multiple of the bound."""

import math

import numpy as np
import torch

from tests.recorded_updates import SETTINGS, AdamW, rate

WRONG = {}
"""Name -> (class, check, words, multiple)."""


def wrong(check, says, multiple=1.0):
    """Register a mistake."""

    def add(cls):
        WRONG[cls.__name__] = (cls, check, says, multiple)
        return cls

    return add


def bfloat16(x):
    """Rounded to 8 bits."""
    return torch.from_numpy(x).to(torch.bfloat16).to(torch.float32).numpy()


# ---- the second moment


@wrong("second_moment", "v does not follow from the gradient in m", 1e5)
class AnotherBeta2(AdamW):
    def moments(self, name, g):
        m, _ = super().moments(name, g)
        return m, np.float32(0.999) * self.v[name] + np.float32(0.001) * g * g


@wrong("second_moment", "v does not follow from the gradient in m", 1e5)
class AnotherBeta1(AdamW):
    def moments(self, name, g):
        _, v = super().moments(name, g)
        return np.float32(0.89) * self.m[name] + np.float32(0.11) * g, v


@wrong("second_moment", "m kept in bfloat16, v kept in bfloat16", 1e3)
class MomentsInBfloat16(AdamW):
    def moments(self, name, g):
        return tuple(bfloat16(x) for x in super().moments(name, g))


@wrong("second_moment", "m kept in float16", 1e2)
class FirstMomentThroughFloat16(AdamW):
    def afterwards(self):
        self.m = {n: x.astype(np.float16).astype(np.float32) for n, x in self.m.items()}


@wrong("second_moment", "v does not follow from the gradient in m", 1e5)
class MomentsDropped(AdamW):
    def moments(self, name, g):
        if self.step == 9:
            self.v[name] = np.zeros_like(self.v[name])
        return super().moments(name, g)


@wrong("second_moment", "v does not follow from the gradient in m", 1e5)
class GradientNotSquared(AdamW):
    def moments(self, name, g):
        b2 = np.float32(SETTINGS["beta2"])
        return super().moments(name, g)[0], b2 * self.v[name] + np.float32(0.01) * np.abs(g)


# ---- the form of the weights


@wrong("weights", "eps added before the bias correction", 1e4)
class EpsBeforeCorrection(AdamW):
    def direction(self, m, v):
        c1, c2 = self.corrections()
        return np.float32(math.sqrt(c2) / c1) * m / (np.sqrt(v) + np.float32(SETTINGS["eps"]))


@wrong("weights", "eps inside the square root", 1e4)
class EpsInTheRoot(AdamW):
    def direction(self, m, v):
        c1, c2 = self.corrections()
        return (m / np.float32(c1)) / np.sqrt(v / np.float32(c2) + np.float32(SETTINGS["eps"]))


@wrong("weights", "eps 2e-08", 1e4)
class TwiceTheEps(AdamW):
    def direction(self, m, v):
        c1, c2 = self.corrections()
        return (m / np.float32(c1)) / (np.sqrt(v / np.float32(c2)) + np.float32(2e-8))


@wrong("weights", "behaves like: no bias correction", 1e4)
class NoCorrection(AdamW):
    def corrections(self):
        return 1.0, 1.0


@wrong("weights", "a bias correction that has started again, t is", 1e3)
class CountStartsAgain(AdamW):
    def corrections(self):
        return tuple(1.0 - beta ** (self.t if self.t < 8 else self.t - 7) for beta in self.betas())


@wrong("weights", "the bias correction of the update after", 1e3)
class CountAhead(AdamW):
    def corrections(self):
        return tuple(1.0 - beta ** (self.t + 1) for beta in self.betas())


@wrong("weights", "decay after the update", 3.0)
class DecayAfter(AdamW):
    def decayed(self, p, d, lr, wd):
        moved = p - np.float32(lr) * d
        return moved - np.float32(lr * wd) * moved


@wrong("weights", "weights kept in bfloat16", 1e2)
class WeightsInBfloat16(AdamW):
    def afterwards(self):
        self.p = {n: bfloat16(x) for n, x in self.p.items()}


@wrong("weights", "the weights do not follow from the moments", 1e2)
class AMSGrad(AdamW):
    def direction(self, m, v):
        most = self.__dict__.setdefault("most", {})
        most[m.shape] = np.maximum(most.get(m.shape, 0), v)
        return super().direction(m, most[m.shape].astype(np.float32))


@wrong("weights", "the moments of the update before", 1e3)
class StaleMoments(AdamW):
    def update(self):
        self.held = {n: (self.m[n], self.v[n]) for n in self.p}
        return super().update()

    def direction(self, m, v):
        name = next(n for n in self.p if self.m[n] is m)
        if self.t < 6:
            return super().direction(m, v)
        self.t -= 1
        d = super().direction(*self.held[name])
        self.t += 1
        return d


@wrong("weights", "a tensor that is not updated, or put back", 1e4)
class PutBack(AdamW):
    def update(self):
        held = self.p["b.bias"].copy()
        line = super().update()
        self.p["b.bias"] = held
        return line


# ---- the rate


@wrong("rate", "the rate of the update before", 1e4)
class RateBefore(AdamW):
    def rate(self):
        return rate(self.step - 1) if self.step > 1 else 0.0, rate(self.step)


@wrong("rate", "the rate of the update after", 1e3)
class RateAfter(AdamW):
    def rate(self):
        return rate(self.step + 1), rate(self.step)


@wrong("rate", "logged 0.00075", 10.0)
class RateOffByATenThousandth(AdamW):
    def rate(self):
        return rate(self.step) * 1.0001, rate(self.step)


@wrong("rate", "behaves like: no update at all", 1e4)
class NothingIsUpdated(AdamW):
    def decayed(self, p, d, lr, wd):
        return p


# ---- the decay


@wrong("decay", "declared 0.1 (behaves like: weight decay applied twice)", 50.0)
class DecayTwice(AdamW):
    def decay(self, name):
        return 2.0 * super().decay(name)


@wrong("decay", "weight decay of everything, biases and norms too", 50.0)
class DecayOfEverything(AdamW):
    def decay(self, name):
        return SETTINGS["weight_decay"]


@wrong("decay", "no weight decay, or decay added to the gradient (L2)", 50.0)
class L2(AdamW):
    def regularised(self, name, g):
        return g + np.float32(super().decay(name)) * self.p[name]

    def decay(self, name):
        return 0.0


@wrong("decay", "weight decay that is not multiplied by the rate", 1e4)
class DecayWithoutRate(AdamW):
    def decayed(self, p, d, lr, wd):
        return p * np.float32(1.0 - wd) - np.float32(lr) * d


@wrong("decay", "b.weight: decay 0.0499", 20.0)
class HalfTheDecayOfOne(AdamW):
    def decay(self, name):
        return 0.05 if name == "b.weight" else super().decay(name)


# ---- the norm


@wrong("norm", "no clipping, or clipping after the update", 1e3)
class NoClipping(AdamW):
    def clip(self, g):
        return g, self.norm(g)


@wrong("norm", "each tensor clipped by itself", 1e3)
class EachTensorClipped(AdamW):
    def clip(self, g):
        return {n: super(EachTensorClipped, self).clip({n: x})[0][n] for n, x in g.items()}, self.norm(g)


@wrong("norm", "clipped norm 1.00", 20.0)
class LimitOffByAThousandth(AdamW):
    def clip(self, g):
        norm = self.norm(g)
        return {n: x * np.float32(min(1.0, 1.001 / (norm + 1e-6))) for n, x in g.items()}, norm


@wrong("norm", "logged 1 before clipping", 1e2)
class ClippedNormLogged(AdamW):
    """Only an update whose norm is not cut shows nothing; here it logs the clipped norm and clips twice as far."""

    def clip(self, g):
        clipped, norm = super().clip(g)
        return {n: x * np.float32(0.5) for n, x in clipped.items()}, min(norm, 1.0)


# ---- states, counts and tensors


@wrong("precision", "every number of v of a.weight is a bfloat16")
class SecondMomentInBfloat16(AdamW):
    def afterwards(self):
        self.v = {n: bfloat16(x) for n, x in self.v.items()}


@wrong("precision", "b.bias does not move")
class OneTensorStays(PutBack):
    pass


@wrong("precision", "c.gain: no gradient reaches it in any of 14 updates")
class NoGradient(AdamW):
    def gradients(self):
        return super().gradients() | {"c.gain": np.zeros(30, np.float32)}


@wrong("precision", "m of a.weight is stored in 16 bits")
class StoredInFloat16(AdamW):
    def snapshot(self):
        found = super().snapshot()
        found.m["a.weight"] = found.m["a.weight"].astype(np.float16)
        return found


@wrong("skipped", "nothing changed, and the log does not say skipped")
class SkippedInSilence(AdamW):
    def update(self):
        if self.step != 6:
            return super().update()
        self.step += 1
        return {"step": self.step, "loss": 1.0, "lr": rate(self.step), "grad_norm": 1.0}


@wrong("skipped", "the log says skipped, and tensors changed")
class SaidSkipped(AdamW):
    def update(self):
        return super().update() | ({"skipped": True} if self.step == 7 else {})


@wrong("skipped", "t after it is not the number of updates made")
class CountsTwice(AdamW):
    def counted(self):
        return self.t * 2


@wrong("tensors", "a.weight has no v")
class NoSecondMoment(AdamW):
    def snapshot(self):
        found = super().snapshot()
        del found.v["a.weight"]
        return found


@wrong("tensors", "m of old.weight belongs to no parameter")
class MomentOfNothing(AdamW):
    def snapshot(self):
        found = super().snapshot()
        found.m["old.weight"] = np.ones(3, np.float32)
        return found


@wrong("tensors", "b.bias is in one of the two checkpoints alone")
class TensorLost(AdamW):
    def snapshot(self):
        found = super().snapshot()
        if self.step % 2:
            del found.p["b.bias"]
        return found
