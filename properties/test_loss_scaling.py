"""Dynamic loss scaling: how the scale moves, and what an update does whose gradients overflow."""

import numpy as np
from hypothesis import assume

from fixtures.scaling_strategies import IN_EACH_TYPE, IN_THE_FOURTH, LARGEST, MOVING, scalings, steady
from properties.assertions import agrees, holds, same_bytes
from properties.checks import checks
from properties.dtypes import to
from reference.loss_scaling import Scaler, first_update

TABLE = [{"case": case} for case in (IN_THE_FOURTH, *IN_EACH_TYPE)]
BEYOND = 2
"""How far the count of a restored state is beyond the interval."""


def begun(subject, case):
    """The subject's machine before the first update."""
    return subject.scaler(case.typed(case.params, subject.conventions.float_types), dict(case.settings))


def law(subject, case):
    """How the scale moves: the oracle, of which only that is asked."""
    return Scaler([], case.settings, growth=subject.conventions.growth)


def stepped(subject, machine, case, number):
    """The record of one update."""
    given = case.scaled(number, machine.scale(), subject.conventions.float_types)
    return machine.step(given)


def arrays(machine):
    """Copies of the parameters."""
    return [np.array(x) for x in machine.parameters()]


def same_parameters(rule, got, expected, what):
    """Bit for bit."""
    for place, (a, b) in enumerate(zip(got, expected, strict=True)):
        same_bytes(rule, a, b, f"parameter {place} {what}")


def follows(rule, machine, oracle, subject, case):
    """The scale before and after every update is that of the table."""
    same_bytes(rule, np.float64(machine.scale()), np.float64(oracle.scale()), "the first scale")
    for number, over in enumerate(case.overflows):
        stepped(subject, machine, case, number)
        oracle.adjust(over is not None)
        fate = "".join("1" if x else "0" for x in case.overflows[: number + 1])
        what = f"the scale after updates {fate} (1: not finite), interval {case.settings['growth_interval']}"
        same_bytes(rule, np.float64(machine.scale()), np.float64(oracle.scale()), what)


@checks("SCALE-01", case=scalings(powers=False), always=TABLE)
def test_the_scale_grows_after_an_interval_and_backs_off_at_once(subject, case):
    follows("SCALE-01", begun(subject, case), law(subject, case), subject, case)


@checks("SCALE-02")
def test_the_scale_does_not_leave_single_precision(subject):
    follows("SCALE-02", begun(subject, LARGEST), law(subject, LARGEST), subject, LARGEST)


@checks("SCALE-03", case=scalings(), always=TABLE)
def test_what_is_not_finite_is_found_wherever_it_is(subject, case):
    machine = begun(subject, case)
    for number, over in enumerate(case.overflows):
        record = stepped(subject, machine, case, number)
        said = bool(record["skipped"])
        found = f"update {number}, {'all finite' if over is None else f'{over[2]} in parameter {over[0]}'}: "
        holds("SCALE-03", said == (over is not None), f"{found}skipped is {said}")


@checks("SCALE-04", case=scalings())
def test_gradients_are_unscaled_once_before_they_are_clipped(subject, dtype, case):
    declared = subject.conventions
    params, gradients = to(dtype, case.params, case.gradients[0])
    settings = case.settings
    machine = subject.scaler(list(params), dict(settings))
    record = machine.step([g * dtype(settings["init_scale"]) for g in gradients])
    norm = float(np.sqrt(sum(float((g * g).sum()) for g in case.gradients[0])))
    assume(abs(norm - settings["max_norm"]) > 0.02 * settings["max_norm"])
    got = arrays(machine), np.asarray(float(record["grad_norm"]))
    how = declared.adamw | declared.clipping | {"scalars": declared.scalars}
    agrees("SCALE-04", got, first_update, list(params), list(gradients), settings, dtype=dtype, **how)


@checks("SCALE-05", case=scalings(), always=TABLE)
def test_a_skipped_update_is_as_if_it_had_not_been(subject, case):
    """Parameters at once; moments and their count in the updates that follow."""
    machine, other = begun(subject, case), begun(subject, case)
    plain, done = case.without_overflows(), 0
    for number, over in enumerate(case.overflows):
        before = arrays(machine)
        stepped(subject, machine, case, number)
        if over is not None:
            same_parameters("SCALE-05", arrays(machine), before, f"after update {number}, which overflows")
            continue
        stepped(subject, other, plain, done)
        done += 1
        what = f"after update {number}, and without the {number + 1 - done} updates that overflowed"
        same_parameters("SCALE-05", arrays(machine), arrays(other), what)


@checks("SCALE-06", case=scalings(), always=TABLE)
def test_a_skipped_update_takes_the_schedule_as_far_as_is_declared(subject, case):
    case, ticks = case.set(**MOVING), subject.conventions.skipped == "tick"
    machine, other = begun(subject, case), begun(subject, case)
    plain = case.finite() if ticks else case.without_overflows()
    rates = [float(stepped(subject, other, plain, k)["lr"]) for k in range(len(plain.overflows))]
    holds("SCALE-06", len(rates) < 2 or rates[0] != rates[1], f"the schedule stands still: {rates}")
    done = 0
    for number, over in enumerate(case.overflows):
        found = float(stepped(subject, machine, case, number)["lr"])
        if over is None:
            what = f"the rate of update {number}, after {number - done} that were skipped"
            expected = rates[number if ticks else done]
            same_bytes("SCALE-06", np.float64(found), np.float64(expected), what)
            done += 1
    holds("SCALE-06", True, "")


@checks("SCALE-07", case=scalings(longest=6), always=TABLE)
def test_a_restored_scaler_goes_on_as_the_one_that_was_saved(subject, case):
    """From every cut, in a machine that began with other parameters."""
    case = case.set(**MOVING)
    machine, states, seen = begun(subject, case), [], []
    for number in range(len(case.overflows)):
        states.append(machine.state())
        record = stepped(subject, machine, case, number)
        seen.append((float(record["lr"]), machine.scale(), arrays(machine)))
    for cut, state in enumerate(states):
        copy = subject.scaler([x + 1.0 for x in arrays(machine)], dict(case.settings))
        copy.restore(state)
        for number in range(cut, len(seen)):
            record, what = stepped(subject, copy, case, number), f"update {number}, restored before {cut}"
            lr, scale, parameters = seen[number]
            same_bytes("SCALE-07", np.float64(copy.scale()), np.float64(scale), f"the scale after {what}")
            same_bytes("SCALE-07", np.float64(record["lr"]), np.float64(lr), f"the rate of {what}")
            same_parameters("SCALE-07", arrays(copy), parameters, f"after {what}")


@checks("SCALE-08")
def test_a_count_beyond_the_interval_grows_or_not_as_is_declared(subject):
    """The state of a run whose interval was longer."""
    for fate in ("0000000", "0100000"):
        case = steady(fate, 3)
        machine, oracle = begun(subject, case), law(subject, case)
        state = dict(machine.state())
        state["growth_tracker"] = oracle.count = case.settings["growth_interval"] + BEYOND
        machine.restore(state)
        follows("SCALE-08", machine, oracle, subject, case)
