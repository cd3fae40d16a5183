"""Which conventions change what a rule asks for: those that its properties look at, and those that excuse its mutants."""

import ast
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from fixtures.mutants import MUTANTS
from honestloop.conventions import LEGAL
from properties.checks import all_properties
from reference.rules import RULES

GROUPS = {"adamw": ("decay", "eps"), "clipping": ("clip", "norm"), "step_number": ("first_step",)}
"""Attributes of Conventions that stand for several keys."""


def conventions_of(rule: str) -> list[str]:
    """Keys of conventions, in the order of their table."""
    return [key for key in LEGAL if key in keys_by_rule()[rule]]


@functools.cache
def keys_by_rule() -> dict[str, set[str]]:
    """Rule -> keys. `dtypes`, which every rule heeds, is left out."""
    found: dict[str, set[str]] = {rule: set() for rule in RULES}
    for prop in all_properties().values():
        keys = set(keys_read(prop.test))
        for rule in prop.rules:
            found[rule] |= keys
    for mutant in MUTANTS.values():
        for rule in mutant.rules:
            found[rule] |= {*mutant.unless, *mutant.declares}
    return {rule: keys - {"dtypes"} for rule, keys in found.items()}


def keys_read(test: Callable[..., Any]) -> Iterator[str]:
    """Keys that a property, or a function of its file that it calls, reads of a subject's conventions."""
    functions = functions_of(inspect.getmodule(test).__file__)  # type: ignore[union-attr]
    waiting, seen = [test.__name__], set[str]()
    while waiting:
        name = waiting.pop()
        if name in seen or name not in functions:
            continue
        seen.add(name)
        for node in ast.walk(functions[name]):
            if isinstance(node, ast.Name):
                waiting.append(node.id)
            if isinstance(node, ast.Attribute) and is_conventions(node.value):
                yield from GROUPS.get(node.attr, (node.attr,) if node.attr in LEGAL else ())


def is_conventions(node: ast.expr) -> bool:
    """Whether an expression is a subject's conventions, by the names that the properties give them."""
    if isinstance(node, ast.Attribute):
        return node.attr == "conventions"
    return isinstance(node, ast.Name) and node.id in ("conventions", "declared")


@functools.cache
def functions_of(file: str) -> dict[str, ast.FunctionDef]:
    """Name -> definition, of the functions of a file."""
    with open(file, encoding="utf-8") as source:
        tree = ast.parse(source.read())
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
