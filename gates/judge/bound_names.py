"""Which names of a file are its own, though they are spelled as functions of Python that run code (`eval`, `compile`).

A name is a file's own where a statement that always runs has bound it before, or where a function around it binds it:
Python then never looks for the function of that name. A class does not count, for it falls back to what is outside.
"""

import ast
from collections.abc import Iterator

Scope = (
    ast.FunctionDef
    | ast.AsyncFunctionDef
    | ast.Lambda
    | ast.ListComp
    | ast.SetComp
    | ast.DictComp
    | ast.GeneratorExp
)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def own_uses(tree: ast.Module) -> set[ast.AST]:
    """Every name, where it is read, that is bound by the file itself."""
    bound = dict(_bound_by_the_module(tree))
    for node in ast.walk(tree):  # unbound again, or bound by who knows whom
        if isinstance(node, ast.Global):
            for name in node.names:
                bound.pop(name, None)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Del):
            bound.pop(node.id, None)
    found: set[ast.AST] = set()
    _look(tree, frozenset(), bound, found)
    return found


def _bound_by_the_module(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """(name, line after which it is bound) of the statements of the module that always run; the first of each."""
    for statement in reversed(tree.body):
        for name in _bound_by(statement):
            yield name, statement.end_lineno or 0


def _bound_by(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield statement.name
    elif isinstance(statement, (ast.Import, ast.ImportFrom)):
        yield from (alias.asname or alias.name for alias in statement.names if alias.name != "*")
    elif isinstance(statement, ast.Assign):
        yield from (target.id for target in statement.targets if isinstance(target, ast.Name))
    elif isinstance(statement, ast.AnnAssign) and statement.value and isinstance(statement.target, ast.Name):
        yield statement.target.id


def _look(node: ast.AST, local: frozenset[str], bound: dict[str, int], found: set[ast.AST]) -> None:
    """Collect the reads below a node; `local` are the names that the functions around it bind."""
    if isinstance(node, ast.Name) and (node.id in local or node.lineno > bound.get(node.id, node.lineno)):
        found.add(node)
    if not isinstance(node, Scope):
        for child in ast.iter_child_nodes(node):
            _look(child, local, bound, found)
        return
    inner = local | frozenset(_bound_in(node))
    for child, is_inside in _parts(node):
        _look(child, inner if is_inside else local, bound, found)


def _parts(scope: Scope) -> Iterator[tuple[ast.AST, bool]]:
    """What a function or a comprehension is made of, and whether it is evaluated within it."""
    if isinstance(scope, COMPREHENSIONS):
        first = scope.generators[0].iter
        yield first, False
        yield from ((child, True) for child in _without(scope, first))
        return
    body = scope.body if isinstance(scope.body, list) else [scope.body]
    yield from ((child, True) for child in body)
    yield from ((child, False) for child in ast.iter_child_nodes(scope) if child not in body)


def _without(scope: ast.AST, first: ast.AST) -> Iterator[ast.AST]:
    """The parts of a comprehension without the iterable that is evaluated outside of it."""
    for child in ast.iter_child_nodes(scope):
        if isinstance(child, ast.comprehension) and child.iter is first:
            yield from (part for part in ast.iter_child_nodes(child) if part is not first)
        else:
            yield child


def _bound_in(scope: Scope) -> set[str]:
    """Names that the function, or the comprehension, binds for itself."""
    names, others = set[str](), set[str]()
    arguments = [] if isinstance(scope, COMPREHENSIONS) else [scope.args]
    names |= {part.arg for node in arguments for part in ast.walk(node) if isinstance(part, ast.arg)}
    waiting: list[ast.AST] = []
    if isinstance(scope, (ast.FunctionDef, ast.AsyncFunctionDef)):
        waiting = [*scope.body]
    elif not isinstance(scope, ast.Lambda):
        waiting = [generator.target for generator in scope.generators]
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.Global, ast.Nonlocal)):
            others |= set(node.names)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
            continue
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, Scope):  # what it binds is its own
            continue
        waiting += ast.iter_child_nodes(node)
    return names - others
