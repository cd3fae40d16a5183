"""Run the properties on wrong subjects and print, as JSON, what each said: `python -m tests.bite`.

A process of its own, because Hypothesis reads its settings when a property is defined: here no shrinking, no database.
"""

import inspect
import itertools
import json
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hypothesis import HealthCheck, Phase, settings

PROPERTIES = Path(__file__).parents[1] / "properties"
SETTINGS = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


def tests_of_subjects() -> dict[str, Callable[..., None]]:
    """ "test_x.py::test_y" -> the test, for every test that takes a subject."""
    found = {}
    for path in sorted(PROPERTIES.glob("test_*.py")):
        module = import_module(f"properties.{path.stem}")
        for name, test in vars(module).items():
            if name.startswith("test_") and "subject" in inspect.signature(test).parameters:
                found[f"{path.name}::{name}"] = test
    return found


def parameters(test: Callable[..., None]) -> Iterator[dict[str, Any]]:
    """Every combination of the test's parametrize marks."""
    marks = [mark.args for mark in getattr(test, "pytestmark", []) if mark.name == "parametrize"]
    for values in itertools.product(*(values for _, values in marks)):
        yield {name: value for (name, _), value in zip(marks, values, strict=True)}


def verdict(test: Callable[..., None], subject: Any) -> str | None:
    """What the test says about the subject; None when it passes."""
    for arguments in parameters(test):
        try:
            test(subject=subject, **arguments)
        except Exception as error:  # a wrong subject may fail in any way
            return f"{type(error).__name__}: {error}"
    return None


class Subject(SimpleNamespace):
    """The correct subject with one function exchanged."""

    def find(self, function: str) -> Any:
        return getattr(self, function)


def main() -> None:
    settings.register_profile("bite", SETTINGS)
    settings.load_profile("bite")
    from tests.oracle_subject import SUBJECT
    from tests.wrong_subjects import WRONG

    tests = tests_of_subjects()
    found: dict[str, Any] = {"tests": sorted(tests), "wrong": {}}
    for wrong in WRONG:
        subject = Subject(**(SUBJECT | {wrong.function: wrong.instead}))
        found["wrong"][wrong.name] = {node: verdict(tests[node], subject) for node in wrong.refused_by}
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
