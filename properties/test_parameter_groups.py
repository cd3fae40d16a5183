"""Groups of parameters by role, and the state of each parameter after a resume."""

import numpy as np

from fixtures.group_strategies import group_cases, moments_cases
from properties.assertions import agrees, holds, same_bytes
from properties.checks import checks
from properties.dtypes import either, to
from reference import parameter_groups as law
from reference.optimizer import moments


def grouped(subject, case):
    """The subject's groups, as a list of dicts."""
    found = subject.parameter_groups(
        dict(case.parameters), dict(case.defaults), dict(case.overrides), case.muon
    )
    return [dict(group) for group in found]


def of_each(groups):
    """Name -> its group."""
    return {name: group for group in groups for name in group["names"]}


@checks("GROUP-01", case=group_cases())
def test_every_parameter_is_in_one_group(subject, case):
    names = [name for group in grouped(subject, case) for name in group["names"]]
    missing, twice = set(case.parameters) - set(names), {name for name in names if names.count(name) > 1}
    holds("GROUP-01", not missing, f"in no group: {', '.join(sorted(missing))}")
    holds("GROUP-01", not twice, f"in two groups: {', '.join(sorted(twice))}")
    holds("GROUP-01", len(names) == len(case.parameters), f"{sorted(names)} of {sorted(case.parameters)}")
    holds("GROUP-01", grouped(subject, case) == grouped(subject, case), "asked again, the groups are others")


@checks("GROUP-03", case=group_cases())
def test_a_setting_of_zero_is_zero(subject, case):
    found = of_each(grouped(subject, case))
    for name, (role, _) in case.parameters.items():
        own = case.defaults | case.overrides.get(role, {})
        zeros = [key for key, value in own.items() if value == 0.0 and found[name][key] != 0.0]
        said = f"{name}, a {role}: {', '.join(zeros)} given as 0, taken as {[found[name][k] for k in zeros]}"
        holds("GROUP-03", not zeros, said)


@checks("GROUP-02", case=group_cases())
def test_the_settings_of_a_parameter_are_those_of_its_role(subject, case):
    found, decayed = of_each(grouped(subject, case)), subject.conventions.decayed
    for name, (role, _) in case.parameters.items():
        wanted = law.settings_of(role, case.defaults, case.overrides, decayed)
        other = {key: (found[name][key], x) for key, x in wanted.items() if found[name][key] != x}
        holds("GROUP-02", not other, f"{name}, a {role}: got and expected are {other}")


@checks("GROUP-04", case=group_cases())
def test_muon_is_for_the_matrices_of_blocks(subject, case):
    found = of_each(grouped(subject, case))
    for name, (role, _) in case.parameters.items():
        wanted = "muon" if case.muon and role == "matrix" else "adamw"
        holds("GROUP-04", found[name]["optimizer"] == wanted, f"{name}, a {role}: {found[name]['optimizer']}")


def first_moments(g, beta1, beta2):
    """(m, v) after one gradient."""
    return moments(g, np.zeros(g.shape), np.zeros(g.shape), beta1, beta2)


@checks("GROUP-05", case=moments_cases())
def test_a_resumed_parameter_has_its_own_moments(subject, case):
    dtype = either(subject, len(case.shapes))
    given = [None if g is None else to(dtype, g) for g in case.gradients]
    found = subject.resumed_moments(given, case.shapes, 0.9, 0.99)
    holds("GROUP-05", len(found) == len(given), f"{len(found)} moments of {len(given)} parameters")
    for place, (one, g) in enumerate(zip(found, given, strict=True)):
        if g is None:
            holds(
                "GROUP-05",
                one is None or not np.any(one),
                f"parameter {place} had no gradient and has moments",
            )
        else:
            holds("GROUP-05", one is not None, f"parameter {place} has lost its moments")
            scalars = subject.conventions.scalars
            agrees(
                "GROUP-05", tuple(one), first_moments, np.float64(g), 0.9, 0.99, dtype=dtype, scalars=scalars
            )
    again = subject.resumed_moments(given, case.shapes, 0.9, 0.99)
    pairs = [(a, b) for a, b in zip(again, found, strict=True) if a is not None and b is not None]
    for a, b in pairs:
        same_bytes("GROUP-05", np.asarray(a[0]), np.asarray(b[0]), "the moments, saved and loaded again")
