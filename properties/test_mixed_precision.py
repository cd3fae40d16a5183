"""Parameters of 16 bits, with a master copy or without, and several float types in one call."""

from pathlib import Path

import numpy as np
from hypothesis import assume

from fixtures.loop_strategies import ALWAYS, NEVER, LoopCase, loop_cases
from fixtures.mixed_strategies import (
    HALF_LOSSES,
    LARGE_GRADIENTS,
    UPDATES,
    HalfLossCase,
    half_losses,
    mixed_clippings,
    mixed_updates,
    steady_case,
)
from fixtures.temporary_folder import temporary_folder
from properties.assertions import holds, not_offered, same_bytes, within
from properties.checks import checks
from properties.loop_helpers import Loop, in_domain, same_arrays, variants
from reference import bounds
from reference import mixed_precision as law
from reference.arithmetic import SINGLE, unit_roundoff
from reference.low_precision import low_precision
from reference.mixed_training import TracedMixedTrainer
from reference.running_error import RunningErrorArray
from reference.training_bounds import bounded


def types(subject):
    """The names of the types that the subject may be given, those of 16 bits first."""
    return (*subject.conventions.halves, *(np.dtype(x).name for x in subject.conventions.float_types))


def halves(subject):
    """The types of 16 bits. Not offered if there are none."""
    if not subject.conventions.halves:
        not_offered("half: none")
    return subject.conventions.halves


def unit_of(declared, dtype):
    """Unit roundoff in which the update of a parameter of this type is computed."""
    alone = law.stands_alone(dtype, declared.master, declared.moments)
    return unit_roundoff(dtype) if alone or dtype == "float64" else SINGLE


def traced(declared, x, unit):
    """Arguments of an oracle, for a subject that computes with this unit roundoff."""
    return bounds.traced(x, RunningErrorArray, unit, declared.scalars)


# ---- AdamW


def updates(rule, subject, case):
    """Yields (types, tensors before, settings, tensors after) of every update of the subject's."""
    declared = subject.conventions
    dtypes, tensors = case.begin(types(subject), declared)
    for t in range(1, case.updates + 1):
        for tensor, g in zip(tensors, case.gradients(t, dtypes, declared), strict=True):
            tensor["g"] = g
        number = declared.step_number(t)
        found = subject.mixed_adamw_step(tensors, list(dtypes), t=number, **case.settings)
        again = subject.mixed_adamw_step(tensors, list(dtypes), t=number, **case.settings)
        for place, (a, b) in enumerate(zip(again, found, strict=True)):
            same_bytes(rule, a["m"], b["m"], f"m of parameter {place}, updated again")
        after = [{name: np.asarray(x) for name, x in one.items() if name != "g"} for one in found]
        holds(rule, len(after) == len(tensors), f"{len(tensors)} parameters, {len(after)} came back")
        yield dtypes, tensors, {"t": t, **case.settings}, after
        tensors = [dict(one) for one in after]


@checks("MIX-01", case=mixed_updates(), always=[{"case": case} for case in UPDATES])
def test_each_parameter_is_updated_in_its_own_precision(subject, case):
    """Of the master copy where there is one: it is compared, and the parameter with it in the next property."""
    declared = subject.conventions
    for dtypes, before, settings, after in updates("MIX-01", subject, case):
        wanted = []
        for dtype, tensor in zip(dtypes, before, strict=True):
            unit = unit_of(declared, dtype)
            given, how = traced(declared, tensor, unit), traced(declared, settings, unit)
            (one,) = law.mixed_adamw_step([given], [dtype], kept=declared.moments, **how, **declared.adamw)
            wanted.append({name: bounded(x) for name, x in one.items() if name != "p" or "master" not in one})
        missing = [name for x, y in zip(wanted, after, strict=True) for name in x if name not in y]
        holds("MIX-01", not missing, f"a parameter came back without {', '.join(missing)}")
        got = [{name: y[name] for name in x} for x, y in zip(wanted, after, strict=True)]
        within("MIX-01", got, wanted, np.float32)


@checks("MIX-02", case=mixed_updates(), always=[{"case": case} for case in UPDATES])
def test_a_parameter_is_its_master_copy_rounded(subject, case):
    declared = subject.conventions
    for dtypes, _, _, after in updates("MIX-02", subject, case):
        for place, (dtype, one) in enumerate(zip(dtypes, after, strict=True)):
            numbers = law.holds_numbers_of(one["p"], dtype)
            holds(
                "MIX-02", numbers, f"parameter {place}: not {law.carrier(dtype).__name__} of {dtype} numbers"
            )
            if dtype in declared.halves and declared.master == "float32":
                copy = law.rounded(np.asarray(one["master"], np.float32), dtype)
                same_bytes(
                    "MIX-02", one["p"], copy, f"parameter {place} in {dtype} and its rounded master copy"
                )


# ---- the global norm


def clipped(declared, gradients, dtypes, limit):
    """(gradients, norm) of the oracle, with their bounds."""
    unit = {dtype: min(unit_roundoff(dtype), SINGLE) for dtype in dtypes}
    given = [traced(declared, g, unit[dtype]) for g, dtype in zip(gradients, dtypes, strict=True)]
    return law.mixed_clip_by_global_norm(given, dtypes, limit, **declared.clipping)


def in_range(declared, gradients, dtypes):
    """Whether the norm is defined: of a subject that sums in the types of the gradients, in the narrowest of them."""
    largest = max((float(np.max(np.abs(g), initial=0.0)) for g in gradients), default=0.0)
    total = sum(g.size for g in gradients) * largest * largest
    return declared.norm == "double" or total < (1e4 if "float16" in dtypes else 1e37)


@checks("MIX-03", case=mixed_clippings(), always=[{"case": case} for case in LARGE_GRADIENTS])
def test_the_norm_is_summed_in_single_precision_or_wider(subject, case):
    declared = subject.conventions
    dtypes, gradients = case.typed(types(subject))
    assume(in_range(declared, gradients, dtypes))
    _, got = subject.mixed_clip_by_global_norm(gradients, list(dtypes), case.limit)
    _, norm = clipped(declared, gradients, dtypes, case.limit)
    within("MIX-03", np.asarray(float(got)), bounded(norm), np.float32)


@checks("MIX-04", case=mixed_clippings(), always=[{"case": case} for case in LARGE_GRADIENTS])
def test_each_gradient_is_scaled_in_its_own_precision(subject, case):
    declared = subject.conventions
    dtypes, gradients = case.typed(types(subject))
    assume(in_range(declared, gradients, dtypes))
    got, _ = subject.mixed_clip_by_global_norm(gradients, list(dtypes), case.limit)
    again, _ = subject.mixed_clip_by_global_norm(gradients, list(dtypes), case.limit)
    for place, (a, b) in enumerate(zip(again, got, strict=True)):
        same_bytes("MIX-04", a, b, f"gradient {place}, clipped again")
    wanted, norm = clipped(declared, gradients, dtypes, case.limit)
    assume(abs(float(norm) - case.limit) > 0.02 * case.limit)
    within("MIX-04", [np.asarray(g) for g in got], [bounded(g) for g in wanted], np.float32)
    for place, (g, dtype, before) in enumerate(zip(got, dtypes, gradients, strict=True)):
        numbers = law.holds_numbers_of(g, dtype)
        holds("MIX-04", numbers, f"gradient {place}: not {law.carrier(dtype).__name__} of {dtype} numbers")
        narrow = low_precision(np.asarray(g)) if dtype not in declared.halves else ""
        said = f"gradient {place} is {dtype}, and came back as numbers of {narrow} beside {', '.join(dtypes)}"
        holds("MIX-04", not narrow or low_precision(before), said)


# ---- the loss


@checks("MIX-05", case=half_losses(), always=[{"case": case} for case in HALF_LOSSES])
def test_the_loss_of_16_bit_logits_is_computed_in_single_precision(subject, case: HalfLossCase):
    dtype, logits, targets = case.typed(types(subject))
    got, gradient = subject.mixed_cross_entropy(logits, targets, case.loss_mask, dtype)
    again = subject.mixed_cross_entropy(logits, targets, case.loss_mask, dtype)
    same_bytes("MIX-05", again[1], gradient, "the gradient, computed again")
    given = traced(subject.conventions, logits, min(unit_roundoff(dtype), SINGLE))
    loss, wanted = law.mixed_cross_entropy(given, case.targets, case.loss_mask, dtype)
    within(
        "MIX-05", [np.asarray(float(got)), np.asarray(gradient)], [bounded(loss), bounded(wanted)], np.float32
    )
    holds("MIX-05", law.holds_numbers_of(gradient, dtype), f"the gradient does not hold {dtype} numbers")


# ---- the loop


def in_type(subject, case, which=0):
    """The case with parameters of 16 bits, in the domain of the subject; and their type."""
    form = halves(subject)[which % len(halves(subject))]
    case = in_domain(subject, case)
    params = {name: law.rounded(np.asarray(x, np.float32), form) for name, x in case.params.items()}
    return LoopCase(params, case.settings | {"dtype": form}, case.epochs, case.accumulate), form


def loop_of(subject, case):
    """The subject's loop for a case in 16 bits."""
    return Loop(subject, subject.trainer, case.params, case.settings, case.accumulate)


def oracle_of(subject, case):
    """The oracle's loop, with bounds."""
    declared = subject.conventions
    how = variants(subject) | {"master": declared.master, "moments": declared.moments}
    return TracedMixedTrainer(case.params, case.settings, **how)


def follows(rule, subject, case, form, drawn=True):
    """Parameters of every pass are those of the oracle, and numbers of the type; the records of a drawn case too."""
    loop, oracle = loop_of(subject, case), oracle_of(subject, case)
    for epochs, records in loop.passes(case.epochs):
        wanted = [record for epoch in epochs for record in oracle.train(epoch, case.accumulate)]
        holds(rule, len(records) == len(wanted), f"{len(records)} records, expected {len(wanted)}")
        names = [name for name in ("loss", "grad_norm") if name in loop.fields]
        said = [{name: bounded(np.asarray(0.0) + record[name]) for name in names} for record in wanted]
        if drawn:
            within(rule, loop.logged(records, *names), said, np.float32)
        found = loop.arrays()
        for name, x in found.items():
            numbers = law.holds_numbers_of(x, form)
            holds(rule, numbers, f"{name}: not {law.carrier(form).__name__} of {form} numbers")
        law_of = bounded(oracle.parameters())
        if drawn or all(np.all(np.isfinite(x.bound)) for x in law_of.values()):
            within(rule, found, law_of, np.float32)
        else:
            not_offered("in the arithmetic that is declared, so many updates have no bound")


@checks("MIX-06", case=loop_cases(passes=(1, 2), longest=3, max_norms=NEVER | ALWAYS))
def test_a_loop_in_16_bits_follows_the_law(subject, case):
    case = LoopCase(case.params, case.settings | {"eps": 0.3}, case.epochs, case.accumulate)
    for which in range(len(halves(subject))):
        follows("MIX-06", subject, *in_type(subject, case, which))


@checks("MIX-06")
def test_updates_too_small_for_16_bits_add_up_in_the_master_copy(subject):
    """Thirty-two at a rate of a quarter of an ulp."""
    for which, form in enumerate(halves(subject)):
        case = steady_case(0.25, 32, unit_roundoff(form))
        typed, _ = in_type(subject, case, which)
        follows("MIX-06", subject, typed, form, drawn=False)


@checks("MIX-07", floor=1)
def test_a_run_in_16_bits_goes_on_from_the_master_copy(subject):
    """At a rate of an ulp, what the parameters lack of the master copy shows within a few updates."""
    for which, form in enumerate(halves(subject)):
        case, _ = in_type(subject, steady_case(1.0, 12, unit_roundoff(form)), which)
        (epoch,) = case.epochs
        original = loop_of(subject, case)
        original.needs("save", "load")
        if original.fits:
            not_offered("epochs = fit: its epochs are not cut here")
        with temporary_folder() as folder:
            for number in range(len(epoch)):
                original.save(Path(folder) / str(number))
                original.train(epoch[number : number + 1])
            for number in (1, 4, 7):
                moved = {name: x * 2.0 for name, x in case.params.items()}
                copy = loop_of(subject, LoopCase(moved, case.settings, case.epochs, case.accumulate))
                copy.load(Path(folder) / str(number))
                for batch in range(number, len(epoch)):
                    copy.train(epoch[batch : batch + 1])
                what = f"{form}, saved after {number} of {len(epoch)} updates, at the end"
                same_arrays("MIX-07", copy.arrays(), original.arrays(), what)
        holds("MIX-07", True, "")
