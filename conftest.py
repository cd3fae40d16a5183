"""A clone is graded by the plugin in its own honestloop/: `pytest properties/`, `pytest gates/`, no `-p` needed."""

from collections.abc import Generator
from typing import Any

import pytest

pytest_plugins = ["honestloop.plugin"]


@pytest.hookimpl(wrapper=True)
def pytest_report_header(config: pytest.Config) -> Generator[None, list[Any], list[Any]]:
    """The settings of pytest-benchmark are told where something is measured, and nowhere else."""
    lines = yield
    measured = any("benchmarks" in argument for argument in config.args)
    return [line for line in lines if measured or not str(line).startswith("benchmark: ")]
