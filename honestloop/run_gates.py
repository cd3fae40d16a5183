"""`honestloop grade`: the gates, run by pytest, with its status turned into that of the command."""

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from honestloop import exit_status

NEEDED = ("jsonschema", "mlflow", "numba", "matplotlib", "psutil", "pydantic", "tokenizers")
"""Packages of the extra `gates`, by which it is known."""
CONFIGURATION = Path(__file__).with_name("grade.ini")


def missing_packages() -> list[str]:
    """Those of the extra that are not installed."""
    return [name for name in NEEDED if importlib.util.find_spec(name) is None]


def names() -> list[str]:
    """The gates, in their order."""
    from gates.verdict.definition import GATES

    return [gate.name for gate in GATES]


def grade(
    subject: str,
    runs: Path,
    seeds: Mapping[str, int | None],
    flags: Mapping[str, bool],
    only: Sequence[str] = (),
) -> int:
    """Run the gates on a subject, or `only` those of these names; the exit status of the command."""
    import gates
    from honestloop import plugin

    folder = Path(str(gates.__file__)).parent
    asked = [folder / f"test_{name}.py" for name in only] or [folder]
    given = [f"{option}={seed}" for option, seed in seeds.items() if seed is not None]
    status = pytest.main(
        [
            *map(str, asked),
            *("-c", str(CONFIGURATION), f"--rootdir={Path.cwd()}", "--import-mode=importlib"),
            *("-p", "no:cacheprovider", "-q"),
            f"--impl={subject}",
            f"--runs={runs}",
            *given,
            *(flag for flag, is_set in flags.items() if is_set),
        ],
        plugins=[plugin],
    )
    return {
        pytest.ExitCode.OK: exit_status.OK,
        pytest.ExitCode.TESTS_FAILED: exit_status.FAILED,
        pytest.ExitCode.INTERRUPTED: exit_status.FAILED,
        pytest.ExitCode.USAGE_ERROR: exit_status.USAGE,
        pytest.ExitCode.NO_TESTS_COLLECTED: exit_status.NOTHING_GRADED,
    }.get(pytest.ExitCode(status), exit_status.OWN_ERROR)
