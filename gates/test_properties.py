"""The properties of the adapter hold: a run shows what its settings exercise, the properties what they do not."""

import pytest

from gates.control_parameters import control_parameters
from gates.judge.property_report import hold


@pytest.mark.needs("properties")
def test_the_properties_of_the_adapter_hold(accept, runs):
    accept(hold(runs["properties"]))


@pytest.mark.parametrize("name", control_parameters("properties", "adapter"))
def test_refuses_an_adapter_that_breaks_a_rule(refuse, runs, name):
    refuse(name, hold(runs[f"control/{name}"]))
