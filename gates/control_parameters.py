"""Negative controls as parameters of the tests that must refuse them."""

from typing import Any

import pytest

from gates.verdict.definition import controls_of


def control_parameters(gate: str, *checks: str, run: str | None = None) -> list[Any]:
    """Names of the controls of these checks (of all, if none is named), each with the job that it needs.

    `run` leaves only those that are run in this way.
    """
    names = [c.name for c in controls_of(gate, *checks) if run in (None, c.run)]
    return [pytest.param(name, marks=pytest.mark.needs(f"control/{name}")) for name in names]
