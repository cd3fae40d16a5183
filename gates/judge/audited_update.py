"""One update judged from its tensors: every quantity that can be recovered, against what is declared and logged."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from gates.judge import known_updates
from gates.judge.bound_share import Share
from gates.judge.declared_optimizer import DeclaredOptimizer
from gates.judge.recorded_update import RecordedUpdate, judged_tensors, misplaced
from gates.judge.weight_audit import audit_weights
from gates.verdict.finding import Problem
from reference import recovered_gradient, recovered_norm, recovered_update
from reference.arithmetic import unit_roundoff
from reference.bounds import Bounded
from reference.low_precision import low_precision
from reference.recovered_update import Tensor


@dataclass(frozen=True)
class AuditedUpdate:
    """What was found in an update."""

    name: str
    skipped: bool = False
    shares: Mapping[str, Share] = field(default_factory=dict)
    """second_moment, weights, decay, rate, norm -> the largest share of a bound."""
    problems: Mapping[str, Sequence[Problem]] = field(default_factory=dict)
    """tensors, skipped, precision -> what is wrong."""
    unreached: frozenset[str] = frozenset()
    """Parameters whose gradient is 0 as far as can be told."""
    judged: int = 0
    """Number of tensors."""

    @property
    def right(self) -> bool:
        """Whether nothing was found."""
        return all(s.ratio <= 1.0 for s in self.shares.values()) and not any(self.problems.values())


def audit(declared: DeclaredOptimizer, update: RecordedUpdate) -> AuditedUpdate:
    """Judge one update."""
    said, same, name = update.said_skipped, update.nothing_changed, update.name
    if said != same:
        silent = f"{name}: nothing changed, and the log does not say skipped"
        made = f"{name}: the log says skipped, and tensors changed"
        what = Problem(made, "an update", "none") if said else Problem(silent, "no update", "an update")
        return AuditedUpdate(name, skipped=True, problems={"skipped": [what]})
    if same:
        return AuditedUpdate(name, skipped=True, problems={"skipped": _count(update)})
    tensors = judged_tensors(declared, update)
    gradients, moments = _second_moments(declared, update, tensors)
    shares = {"second_moment": _worst_moment(update, moments), **audit_weights(declared, update, tensors)}
    if (norm := _norm(declared, update, gradients)) is not None:
        shares["norm"] = norm
    problems = {
        "tensors": misplaced(declared, update),
        "skipped": _count(update),
        "precision": _precision(declared, update, tensors, moments),
    }
    unreached = frozenset(n for n, g in gradients.items() if not recovered_gradient.reached(g))
    return AuditedUpdate(name, False, shares, problems, unreached, len(tensors))


def _count(update: RecordedUpdate) -> list[Problem]:
    """t is the number of updates that were made, by the lines of the log, and a skipped one does not count."""
    before, after, made = update.before.t, update.after.t, update.made
    if after is not None and after != made:
        what = f"{update.name}: t after it is not the number of updates made"
        return [Problem(what, f"t {after}", f"t {made}, by the lines that are not skipped")]
    due = made if update.said_skipped else made - 1
    if before is not None and before != due:
        return [Problem(f"{update.name}: t before it", f"t {before}", f"t {due}")]
    return []


def _second_moments(
    declared: DeclaredOptimizer, update: RecordedUpdate, tensors: Mapping[str, Tensor]
) -> tuple[dict[str, Bounded], dict[str, float]]:
    """The recovered gradients, and by name the share of its bound by which the second moment is off."""
    form, gradients, ratios = declared.form, dict[str, Bounded](), dict[str, float]()
    for name, x in tensors.items():
        m, v = update.moment("m", name), update.moment("v", name)
        g = recovered_gradient.gradient(m, x.m1, beta1=form.beta1, scalars=form.scalars)
        due = recovered_gradient.second_moment(v, x.v1, g, beta2=form.beta2, scalars=form.scalars)
        with np.errstate(all="ignore"):
            found = np.abs(recovered_gradient.wide(x.v1) - due.value) / due.bound
        worst = float(np.max(found, initial=0.0))
        gradients[name], ratios[name] = g, worst if worst == worst else np.inf
    return gradients, ratios


def _worst_moment(update: RecordedUpdate, ratios: Mapping[str, float]) -> Share:
    ratio, name = max(((r, n) for n, r in ratios.items()), default=(0.0, ""))
    kept = [
        f"{k} kept in {low}" for k in "mv" if name and (low := low_precision(getattr(update.after, k)[name]))
    ]
    many = sum(r > 1.0 for r in ratios.values())
    problem = f"{update.name}: {many} of {len(ratios)} tensors, first {name}: v does not follow from the gradient in m"
    got = f"{ratio:.3g} times the derived bound"
    return Share(ratio, problem, got, "at most 1", ", ".join(kept) if ratio > 1.0 else "")


def _norm(
    declared: DeclaredOptimizer, update: RecordedUpdate, gradients: Mapping[str, Bounded]
) -> Share | None:
    """The norm of the clipped gradient against the logged one; None if nothing tells which it must be."""
    logged, limit = update.line.get("grad_norm"), declared.clip_norm
    if not gradients or (logged is None and limit is None):
        return None
    untold = [n for n in update.after.p if n not in gradients and not declared.is_frozen(n)]
    if untold:
        problem = f"{update.name}: the norm cannot be told, for {untold[0]} cannot be judged"
        return Share(math.inf, problem, f"{len(gradients)} tensors", f"all {len(update.after.p)}")
    numbers = sum(g.value.size for g in gradients.values())
    unit = max(unit_roundoff(x.dtype) for x in (update.after.m[n] for n in gradients))
    found = recovered_norm.norm(list(gradients.values()))
    norm, slack = float(found.value), float(found.bound)
    if logged is None:
        assert limit is not None
        slack += recovered_norm.relative_error(numbers, unit) * limit
        problem = f"{update.name}: the clipped gradient has norm {norm:.9g}, the limit is {limit:g}"
        return Share(max(0.0, norm - limit) / slack, problem, f"{norm:.9g}", f"at most {limit:g}")
    due = recovered_norm.left_of(float(logged), limit, declared.clip, numbers=numbers, unit=unit)
    slack, wanted = slack + float(due.bound), float(due.value)
    each = {n: float(recovered_norm.norm([g]).value) for n, g in gradients.items()}
    like = known_updates.name_norm(norm, float(logged), limit, each, slack)
    problem = f"{update.name}: clipped norm {norm:.9g}, logged {float(logged):.9g} before clipping at {limit}"
    problem += f" (behaves like: {like})" if like else ""
    return Share(
        abs(norm - wanted) / slack, problem, f"{norm:.9g}", f"{wanted:.9g}, give or take {slack:.2g}"
    )


def _precision(
    declared: DeclaredOptimizer,
    update: RecordedUpdate,
    tensors: Mapping[str, Tensor],
    moments: Mapping[str, float],
) -> list[Problem]:
    """States of 16 bits, and tensors that stay as they are though their update is not lost in rounding."""
    found = []
    for name in update.after.p:
        for kind in "pmv":
            x = getattr(update.after, kind).get(name)
            if x is not None and x.dtype.itemsize < 4:
                wanted = "float32 or float64, the unrounded master copy"
                found.append(
                    Problem(f"{update.name}: {kind} of {name} is stored in 16 bits", str(x.dtype), wanted)
                )
    for name, x in tensors.items():
        d = recovered_update.direction(declared.form, update.t, x)
        due = recovered_update.expected(declared.form, x, d, update.lr, declared.decay_of(name))
        off = recovered_update.ratio(x, due) > 1.0
        for kind, kept, wrong in (
            ("p", x.p1, off),
            ("m", x.m1, moments[name] > 1),
            ("v", x.v1, moments[name] > 1),
        ):
            if update.t > 1 and wrong and (low := low_precision(kept)):
                what = f"{update.name}: every number of {kind} of {name} is a {low}"
                found.append(Problem(what, f"{low} in {kept.dtype}", "numbers as the update computes them"))
        if off and np.array_equal(x.p, x.p1):
            found.append(Problem(f"{update.name}: {name} does not move", "as before the update", "an update"))
    return found
