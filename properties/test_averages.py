"""Moving averages of weights and of losses."""

import copy
import json

import numpy as np
from hypothesis import strategies as st

from fixtures.control_strategies import decays, losses, weights_in_time
from properties.assertions import holds, same_bytes, within
from properties.checks import checks
from properties.dtypes import to
from reference import bounds
from reference.averages import averaged, interpolated


def bounded(subject, values, decay, start, dtype):
    """The average of numbers or arrays by either formula: the value of one, the bounds of both."""
    settings = {"dtype": dtype, "scalars": subject.conventions.scalars}
    one, other = (bounds.worst_case(f, values, decay, start, **settings) for f in (averaged, interpolated))
    return bounds.Bounded(one.value, one.bound + other.bound)


def taken(subject, decay, history):
    """An average of the subject's that has taken these weights, one after the other."""
    average = subject.weight_average(decay)
    for params in history:
        average.update(params)
    return average


@checks("AVG-01", history=weights_in_time(), decay=decays)
def test_the_average_of_weights_is_the_closed_form(subject, dtype, history, decay):
    """After every update."""
    given, average = [to(dtype, params) for params in history], subject.weight_average(decay)
    for count, params in enumerate(given, start=1):
        average.update(params)
        got = average.parameters()
        holds("AVG-01", got.keys() == history[0].keys(), f"an average of {sorted(got)}")
        for name, array in got.items():
            holds(
                "AVG-01", array.dtype == dtype, f"{name} is {array.dtype}, the weights are {dtype.__name__}"
            )
            values = [np.asarray(seen[name], np.float64) for seen in given[:count]]
            expected = bounded(subject, values, decay, subject.conventions.average, dtype)
            within("AVG-01", array, expected, dtype)


@checks("AVG-02", history=weights_in_time(), decay=decays)
def test_the_average_has_memory_of_its_own(subject, dtype, history, decay):
    """The weights are left as they are; what happens to them later, or to what was handed out, does not move it."""
    given = [to(dtype, params) for params in history]
    reused = {name: w.copy() for name, w in given[0].items()}
    average = subject.weight_average(decay)
    for params in given:
        for name, w in params.items():
            reused[name][...] = w
        average.update(reused)
        for name, w in params.items():
            same_bytes("AVG-02", reused[name], w, f"the weights {name} after the update of their average")
            reused[name][...] = 77.0
    plain = taken(subject, decay, given).parameters()
    handed_out = average.parameters()
    for name, array in handed_out.items():
        found = f"the weights {name} after their average was read"
        same_bytes("AVG-02", reused[name], np.full_like(array, 77.0), found)
        same_bytes("AVG-02", array, plain[name], f"the average of {name}, whose weights went on in place")
    for array in handed_out.values():
        if array.flags.writeable:
            array[...] = 55.0
    for name, array in average.parameters().items():
        same_bytes(
            "AVG-02", array, plain[name], f"the average of {name}, after what it handed out was changed"
        )


@checks("AVG-03", history=weights_in_time(), decay=decays, cut=st.integers(0, 4))
def test_a_restored_average_goes_on(subject, dtype, history, decay, cut):
    """Saved after some updates; the original has gone on when its state is restored. Its next update is the third."""
    given = [to(dtype, params) for params in [*history, *history, *history]]
    cut = min(cut, len(given) - 2) + 1
    original = taken(subject, decay, given[:cut])
    state = original.state()
    for params in given[cut:]:
        original.update(params)
    restored = subject.weight_average(decay)
    restored.restore(state)
    restored.restore(copy.deepcopy(restored.state()))
    for params in given[cut:]:
        restored.update(params)
    wanted = original.parameters()
    for name, array in restored.parameters().items():
        same_bytes("AVG-03", array, wanted[name], f"the average of {name}, restored after {cut} updates")


def averages_of(average, values):
    """What it gives for each of the losses."""
    return [float(average.update(x)) for x in values]


@checks("AVG-04", values=losses, decay=decays)
def test_the_average_of_losses_is_debiased(subject, values, decay):
    got = averages_of(subject.loss_average(decay), values)
    for count, found in enumerate(got, start=1):
        seen = [np.float64(x) for x in values[:count]]
        unit = np.float32 if subject.conventions.scalars == "dtype" else np.float64
        expected = bounded(subject, [np.asarray(x) for x in seen], decay, "debiased", unit)
        within("AVG-04", np.float64(found), expected, np.float64)


@checks("AVG-05", values=losses, decay=decays, cut=st.integers(0, 11))
def test_a_restored_average_of_losses_goes_on(subject, values, decay, cut):
    values = [*values, 1.0, 3.0]
    cut = min(cut, len(values) - 1)
    original, restored = subject.loss_average(decay), subject.loss_average(decay)
    averages_of(original, values[:cut])
    state = json.dumps(original.state())
    wanted = averages_of(original, values[cut:])
    restored.restore(json.loads(state))
    holds("AVG-05", json.dumps(restored.state()) == state, f"state {state} came back as {restored.state()}")
    same_bytes(
        "AVG-05",
        np.array(averages_of(restored, values[cut:])),
        np.array(wanted),
        f"the averages after losses {values[:cut]}, restored",
    )
