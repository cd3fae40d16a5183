"""Updates judged from two checkpoints: right ones of every kind are accepted, wrong ones refused with their names.

Run with -s, the figures are printed: the worst share of a bound of correct updates, and the multiple of each mistake.
"""

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gates.errors import GateError
from gates.judge import optimizer_audit
from gates.judge.audited_update import audit
from gates.judge.bound_share import Share
from tests.recorded_updates import OPTAX, SETTINGS, TORCH, AdamW, declared, numpy_run, optax_run, torch_run
from tests.wrong_optimizers import WRONG

CLIPS_AS_TORCH = {"clip": "torch"}


def audited(spec, updates):
    """Every update, judged."""
    return [audit(spec, update) for update in updates]


def findings(spec, updates):
    """Check -> finding, of every check."""
    found = audited(spec, updates)
    lines = [update.line for update in updates]
    every = {name: check(found) for name, check in optimizer_audit.CHECKS.items()}
    return every | {"skipped": optimizer_audit.skipped(spec, found, lines)}


def worst(found):
    """Check -> the largest share of a bound."""
    checks = {name for update in found for name in update.shares}
    return {n: max(u.shares[n].ratio for u in found if n in u.shares) for n in sorted(checks)}


# ---- correct runs


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", TORCH)
def test_every_form_of_torch_is_accepted(name, seed):
    updates, spec = torch_run(TORCH[name], seed=seed), declared(CLIPS_AS_TORCH)
    shares = worst(audited(spec, updates))
    print(name, {check: f"{ratio:.2g}" for check, ratio in shares.items()})
    for finding in findings(spec, updates).values():
        assert finding.passed, finding.message
    assert 0.3 < shares["weights"] < 0.9  # a bound of the right size


def test_a_skipped_update_is_recognised():
    found = findings(declared(CLIPS_AS_TORCH), torch_run(TORCH["loss scaling"]))
    assert found["skipped"].figure == "14 updates, 7 tensors, 1 of 14 lines skipped: 0 wrong"
    assert "13 updates" in found["weights"].figure


@pytest.mark.parametrize("seed", range(2))
def test_optax_is_accepted_with_its_constants_declared(seed):
    updates, spec = optax_run(seed=seed), declared(OPTAX, schedule="optax")
    print("optax", {check: f"{ratio:.2g}" for check, ratio in worst(audited(spec, updates)).items()})
    for finding in findings(spec, updates).values():
        assert finding.passed, finding.message


def test_constants_in_single_precision_must_be_declared():
    found = findings(declared(OPTAX | {"scalars": "double"}, schedule="optax"), optax_run())
    assert not all(finding.passed for finding in found.values())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numpy_is_accepted(seed, dtype):
    optimizer = type("Typed", (AdamW,), {"dtype": dtype})(seed)
    for finding in findings(declared(CLIPS_AS_TORCH), numpy_run(optimizer, steps=30)).values():
        assert finding.passed, finding.message


@pytest.mark.parametrize("order", ["after", "with"])
def test_other_orders_of_the_decay_are_accepted_where_declared(order):
    class Ordered(AdamW):
        def decayed(self, p, d, lr, wd):
            if order == "with":
                return p - np.float32(lr) * (d + np.float32(wd) * p)
            moved = p - np.float32(lr) * d
            return moved * np.float32(1.0 - lr * wd)

    for finding in findings(declared(CLIPS_AS_TORCH | {"decay": order}), numpy_run(Ordered())).values():
        assert finding.passed, finding.message
    if order == "after":
        found = findings(declared(CLIPS_AS_TORCH), numpy_run(Ordered()))
        assert "behaves like: decay after the update" in found["weights"].message


def test_eps_before_the_correction_is_accepted_where_declared():
    updates = numpy_run(WRONG["EpsBeforeCorrection"][0]())
    spec = declared(CLIPS_AS_TORCH | {"eps": "before correction"})
    for finding in findings(spec, updates).values():
        assert finding.passed, finding.message
    found = findings(spec, numpy_run(AdamW()))
    assert "behaves like: eps added after the bias correction" in found["weights"].message


@pytest.mark.parametrize("clip", ["exact", "torch", "optax", "cs336"])
def test_every_convention_of_clipping_is_accepted(clip):
    from reference.clipping import clip_by_global_norm

    class Clipped(AdamW):
        def clip(self, g):
            found, norm = clip_by_global_norm(list(g.values()), SETTINGS["clip_norm"], clip=clip)
            return {n: np.asarray(x, np.float32) for n, x in zip(g, found, strict=True)}, float(norm)

    for finding in findings(declared({"clip": clip}), numpy_run(Clipped())).values():
        assert finding.passed, finding.message


def test_nothing_is_clipped_where_nothing_is_declared():
    class Free(AdamW):
        def clip(self, g):
            return g, self.norm(g)

    spec = declared(CLIPS_AS_TORCH, clip_norm=None)
    assert findings(spec, numpy_run(Free()))["norm"].passed
    silent = [dataclasses.replace(u, line={"lr": u.line["lr"]}) for u in numpy_run(Free())]
    found = findings(spec, silent)["norm"]
    assert found.passed
    assert found.figure == "no clip_norm is declared, and no line has grad_norm"
    assert found.unproved == "the norms of its gradients"


def test_without_a_logged_norm_the_limit_is_still_held():
    spec = declared(CLIPS_AS_TORCH)
    silent = [dataclasses.replace(u, line={"lr": u.line["lr"]}) for u in numpy_run(AdamW())]
    assert findings(spec, silent)["norm"].passed
    wrong = numpy_run(WRONG["NoClipping"][0]())
    silent = [dataclasses.replace(u, line={"lr": u.line["lr"]}) for u in wrong]
    assert "the clipped gradient has norm 6.7" in findings(spec, silent)["norm"].message


def test_a_frozen_parameter_is_declared():
    class Frozen(AdamW):
        def snapshot(self):
            found = super().snapshot()
            return dataclasses.replace(
                found, p=found.p | {"base": np.ones(3, np.float32) * len(self.__dict__)}
            )

    updates = numpy_run(Frozen())
    assert "base has no m" in findings(declared(CLIPS_AS_TORCH), updates)["tensors"].message
    spec = declared(CLIPS_AS_TORCH, frozen=["base"])
    for finding in findings(spec, updates).values():
        assert finding.passed, finding.message
    moved = dataclasses.replace(updates[-1].after, p=updates[-1].after.p | {"base": np.zeros(3, np.float32)})
    updates[-1] = dataclasses.replace(updates[-1], after=moved)
    assert "base is declared frozen and moves" in findings(spec, updates)["tensors"].message


def test_a_rate_of_zero_and_a_first_state_without_moments_are_no_mistakes():
    """Hugging Face's warm-up begins at 0; PyTorch makes the moments as it starts."""
    spec = declared(CLIPS_AS_TORCH, schedule="huggingface")

    class FromZero(AdamW):
        def rate(self):
            return spec.rate(self.step - 1), spec.rate(self.step - 1)

    updates = numpy_run(FromZero())
    bare = dataclasses.replace(updates[0].before, m={}, v={}, t=None)
    updates[0] = dataclasses.replace(updates[0], before=bare)
    assert updates[0].line["lr"] == 0.0
    for finding in findings(spec, updates).values():
        assert finding.passed, finding.message


# ---- wrong ones


@pytest.mark.parametrize("name", WRONG)
def test_every_mistake_is_refused_by_its_check_with_its_name(name):
    cls, check, says, multiple = WRONG[name]
    updates = numpy_run(cls())
    found = findings(declared(CLIPS_AS_TORCH), updates)
    ratio = worst(audited(declared(CLIPS_AS_TORCH), updates)).get(check, 0.0)
    print(f"{name}: {check}, {ratio:.3g} times the bound")
    assert not found[check].passed
    assert says in found[check].message
    assert ratio >= multiple or check not in optimizer_audit.WHAT


@pytest.mark.parametrize(
    "name", ["DecayTwice", "RateBefore", "EpsInTheRoot", "AnotherBeta2", "LimitOffByAThousandth"]
)
def test_a_mistake_in_one_check_is_not_one_in_others(name):
    """What is wrong is said once: the other checks of the same update hold."""
    cls, check, _, _ = WRONG[name]
    found = findings(declared(CLIPS_AS_TORCH), numpy_run(cls()))
    moves = {"precision"} if name == "RateBefore" else set()  # the first update has a rate of 0
    assert {name for name, finding in found.items() if not finding.passed} - moves == {check}


def test_a_failure_says_what_was_recovered():
    found = findings(declared(CLIPS_AS_TORCH), numpy_run(WRONG["DecayTwice"][0]()))["decay"]
    assert found.message.startswith(
        "GATE record / decay: update 1: 2 of 4 tensors, first a.weight: decay 0.200"
    )
    assert (
        "declared 0.1 (behaves like: weight decay applied twice) (and 13 more updates); got 0.2"
        in found.message
    )
    assert "expected 0.1, as declared; RECORD-07: each tensor decays" in found.message


def test_too_many_skipped_updates_are_refused():
    class Skips(AdamW):
        def update(self):
            if self.step % 4 != 3:
                return super().update()
            self.step += 1
            return {"step": self.step, "loss": 1.0, "lr": 1e-3, "skipped": True}

    found = findings(declared(CLIPS_AS_TORCH), numpy_run(Skips()))
    assert "updates that the log says were skipped; got 3, expected at most 2" in found["skipped"].message
    assert findings(declared(CLIPS_AS_TORCH, most_skipped=0.25), numpy_run(Skips()))["skipped"].passed


def test_nothing_judged_is_no_pass():
    with pytest.raises(GateError, match="no update with a checkpoint on both sides"):
        optimizer_audit.of_bounds("weights", [])
    with pytest.raises(GateError, match="no update of the judged run was made again"):
        optimizer_audit.late([], "")


def test_a_nan_is_refused():
    updates = numpy_run(AdamW())
    updates[5].after.p["a.weight"][3, 4] = np.nan
    assert not findings(declared(CLIPS_AS_TORCH), updates)["weights"].passed
    updates = numpy_run(AdamW())
    updates[5].after.v["a.weight"][3, 4] = np.nan
    assert not findings(declared(CLIPS_AS_TORCH), updates)["second_moment"].passed


def test_late_updates_are_all_looked_at():
    found = audited(declared(CLIPS_AS_TORCH), numpy_run(AdamW()))
    assert optimizer_audit.late(found, "chance").passed
    wrong = audited(declared(CLIPS_AS_TORCH), numpy_run(WRONG["DecayTwice"][0]()))
    assert "declared 0.1" in optimizer_audit.late([*found, wrong[7]], "").message
    lost = audited(declared(CLIPS_AS_TORCH), numpy_run(WRONG["NoSecondMoment"][0]()))
    assert "a.weight has no v" in optimizer_audit.late([*found, lost[7]], "").message


def test_a_share_says_what_it_behaves_like():
    assert Share(2.0, "wrong").message == "wrong"
    assert Share(2.0, "wrong", like="this").message == "wrong (behaves like: this)"


def test_a_mistake_is_named_only_if_most_of_the_wrong_updates_look_like_it():
    """Half the rate is, at one update of the warm-up, the rate of the update before."""
    named = Share(9.0, "update 3: rate 2, logged 4", like="the rate of the update before")
    wrong = [Share(9.0, f"update {k}: rate {k}, logged {2 * k}") for k in (4, 5)]

    def said(shares: list[Share]) -> str:
        updates: list[Any] = [SimpleNamespace(shares={"rate": share}) for share in shares]
        return optimizer_audit.of_bounds("rate", updates).problem

    assert said([named, *wrong]) == "update 4: rate 4, logged 8 (and 2 more updates)"
    assert "behaves like: the rate of the update before" in said([named, named])
