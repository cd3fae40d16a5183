"""Options of the tests of the house."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """--all-mistakes."""
    parser.addoption(
        "--all-mistakes",
        action="store_true",
        help="grade the examples of docs/ with every mistake, not with one of each example (make examples)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """The mark that it looks at."""
    config.addinivalue_line("markers", "thorough: left out unless asked for: it takes long (--all-mistakes)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes long, and say so."""
    if not config.getoption("--all-mistakes"):
        left_out = [item for item in items if item.get_closest_marker("thorough")]
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)
