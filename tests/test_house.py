"""Rules of the house that no tool holds."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("honestloop", "reference", "impl", "properties", "gates", "benchmarks", "fixtures", "pages")
LONGEST = 60


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_function_is_longer_than_a_screen(folder):
    """Counted from `def` to the last line."""
    files = list((ROOT / folder).rglob("*.py"))
    assert files
    too_long = {
        f"{file.relative_to(ROOT)}:{node.lineno} {node.name}": length
        for file in files
        for node in ast.walk(ast.parse(file.read_bytes()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and (length := (node.end_lineno or 0) - node.lineno + 1) > LONGEST
    }
    assert not too_long
