"""Public functions say what they do, and of which shapes their arrays are."""

import ast
import importlib.util
import pkgutil
import re
from pathlib import Path

import pytest

import honestloop
import reference
from fixtures import subjects
from honestloop import guard
from impl import adapter

PACKAGES = [honestloop, guard, reference, subjects]
MODULES = [f"{p.__name__}.{module.name}" for p in PACKAGES for module in pkgutil.iter_modules(p.__path__)]
MODULES.remove(f"{honestloop.__name__}.__main__")
MODULES.append(adapter.__name__)
"""Modules whose public functions, classes and methods are documented: what a user calls, and the law."""
ARRAY = re.compile(r"ndarray|Tensor")
"""An annotation of an array; `Float[np.ndarray, "B T"]` states its shape."""
SHAPED = re.compile(r"\b(Float|Int|Integer|UInt32|Bool|Shaped|Num)\[(np\.ndarray|Array|Tensor), *['\"]")
IN_WORDS = re.compile(r"shape|\[[\w., +*-]+\]|elementwise|scalar", re.IGNORECASE)
EXAMPLE_WITHOUT_SHAPE = 'def f(x: np.ndarray) -> float:\n    """The largest."""\n'
EXAMPLE_WITHOUT_DOCSTRING = "class A:\n    def f(self):\n        return 1\n"
EXAMPLE = (
    'def f(x: Float[np.ndarray, "B T"], y: np.ndarray) -> float:\n    """The largest of x and y [B, T]."""\n'
)


def public(node, prefix=""):
    """(name, node) of the public functions, classes and methods of a parsed module; none of a private class."""
    for child in node.body:
        if isinstance(child, ast.FunctionDef | ast.ClassDef) and not child.name.startswith("_"):
            yield f"{prefix}{child.name}", child
            if isinstance(child, ast.ClassDef):
                yield from public(child, f"{child.name}.")


def annotations(function):
    """The source of each annotation of a function."""
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    found = [argument.annotation for argument in arguments] + [function.returns]
    return [ast.unparse(annotation) for annotation in found if annotation is not None]


def problems(source):
    """What is missing from the docstrings of a module's source."""
    for name, node in public(ast.parse(source)):
        text = ast.get_docstring(node)
        if not text:
            yield f"{name} has no docstring"
        elif isinstance(node, ast.FunctionDef):
            arrays = [a for a in annotations(node) if ARRAY.search(a)]
            if not all(SHAPED.search(a) for a in arrays) and not IN_WORDS.search(text):
                yield f"{name} does not say of which shape its arrays are"


@pytest.mark.parametrize("module", MODULES)
def test_public_functions_have_docstrings_with_shapes(module):
    spec = importlib.util.find_spec(module)
    assert spec and spec.origin
    assert list(problems(Path(spec.origin).read_text(encoding="utf-8"))) == []


def test_what_is_missing_is_found():
    assert list(problems(EXAMPLE_WITHOUT_DOCSTRING)) == ["A has no docstring", "A.f has no docstring"]
    assert list(problems(EXAMPLE_WITHOUT_SHAPE)) == ["f does not say of which shape its arrays are"]
    assert list(problems(EXAMPLE)) == []
