"""The table of the kinds of input is true: what it claims is given, and what it leaves out has a reason."""

import pytest

from honestloop.protocol import FUNCTIONS
from properties import coverage_of_inputs as table
from properties.inputs_given import KINDS, record


@pytest.fixture(scope="module")
def measured():
    """Function -> kinds that it was given, with a few examples of each property."""
    return record(table.ARGUMENTS)


def test_every_function_of_the_properties_is_in_the_table():
    assert table.ARGUMENTS.keys() | table.NOT_GRADED == FUNCTIONS.keys()


def test_every_method_of_a_loop_that_a_property_calls_is_in_the_table(measured):
    assert measured.keys() == set(table.ROWS)


def test_no_kind_is_left_out_without_a_reason(measured):
    silent = [(f, k) for f in table.ROWS for k in KINDS if k not in measured[f] and not table.reason(f, k)]
    assert not silent, silent


def test_no_reason_is_given_for_a_kind_that_must_be_there(measured):
    """A reason speaks of the function; a kind that a function can be given is claimed, and then it is measured."""
    claimed = [(f, k) for f, kinds in table.MUST_BE_GIVEN.items() for k in kinds]
    assert claimed
    assert not [(f, k) for f, k in claimed if table.reason(f, k)]
    assert not [(f, k) for f, k in claimed if k not in measured[f]]
