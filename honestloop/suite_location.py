"""Where the suite is: in a clone its folders are packages of their own; in the wheel they are in honestloop.suite."""

from pathlib import Path

import reference

INSTALLED = reference.__name__ != "reference"
"""Whether this is the installed wheel."""
ROOT = Path.cwd() if INSTALLED else Path(__file__).resolve().parents[1]
"""Where subjects are started and runs go: the clone; of the wheel, the folder in which the command is typed."""
DEFAULT_SUBJECT = None if INSTALLED else "impl"
"""What `--impl` means if it is not given: a clone grades the loop that it comes with."""


def in_suite(name: str) -> str:
    """The name that a module of one of our folders has here: "impl" is "honestloop.suite.impl" in the wheel."""
    return reference.__name__.removesuffix("reference") + name
