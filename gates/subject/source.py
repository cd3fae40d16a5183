"""The source files of a subject, found without importing it."""

import ast
import sys
import sysconfig
from collections.abc import Iterator
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path

from gates.errors import GateError

CODE = {".py", ".pyc", ".so", ".pyd"}


def sources(subject: str, root: Path) -> Iterator[Path]:
    """Every source file of a subject, found without importing it. GateError if it is not there or not readable.

    The whole package (or the one module) that the subject names, and, transitively, every module that is imported and
    lies outside the standard library and site-packages, with the packages it is in. What lies in the subject's own
    top-level package is never taken for a library.
    """
    path = [str(root), *sys.path]
    waiting = [*_chain(subject, path), *_inside(find(subject, path)[1])]
    if not waiting:
        raise GateError(f"the source of subject {subject!r} was not found on the path")
    own_files, own_folders = find(subject.partition(".")[0], path)
    seen: set[Path] = set()
    while waiting:
        file = waiting.pop()
        is_own = file in own_files or any(folder in file.parents for folder in own_folders)
        if file in seen or (_is_library(file) and not is_own):
            continue
        if file.suffix != ".py":
            raise GateError(f"{file}: not Python source, so it cannot be scanned")
        seen.add(file)
        yield file
        waiting += [found for name in _imports(file) for found in _chain(name, path)]


def parse(file: Path) -> ast.Module:
    try:
        return _parsed(file.read_bytes())
    except SyntaxError as error:
        raise GateError(f"{file}: cannot be parsed ({error.msg}, line {error.lineno})") from None
    except ValueError as error:
        raise GateError(f"{file}: cannot be parsed ({error})") from None


_parsed = cache(ast.parse)  # a file is parsed for what it imports and for what it does, and by every control


def _imports(file: Path) -> Iterator[str]:
    """Absolute names of every module that a file imports; `from a import b` may mean the module a.b."""
    for node in ast.walk(parse(file)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = _package_of(file)[: -node.level + 1 or None] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{name.name}" for name in node.names)


def _chain(name: str, path: list[str]) -> list[Path]:
    """The files that importing a module would run: its parents' and its own, as far as they are found."""
    parts = name.split(".")
    return [file for end in range(len(parts)) for file in find(".".join(parts[: end + 1]), path)[0]]


def find(name: str, path: list[str]) -> tuple[list[Path], list[Path]]:
    """The file that a module is, if any, and the folders of its package: both empty if it is not found."""
    parts = name.split(".")
    locations, file = path, list[Path]()
    for end in range(1, len(parts) + 1):
        file, locations = _find_one(".".join(parts[:end]), locations)
    return file, [Path(folder) for folder in locations]


def _find_one(name: str, locations: list[str]) -> tuple[list[Path], list[str]]:
    """One step: where a module is, looked for in its parent's folders. A package may lack an `__init__.py`."""
    try:
        spec = PathFinder.find_spec(name, locations)
    except KeyError:  # a folder without __init__.py, in a parent that is not imported
        folders = [Path(place) / name.rpartition(".")[2] for place in locations]
        return [], [str(folder) for folder in folders if folder.is_dir()]
    if spec is None:
        return [], []
    file = [Path(spec.origin)] if spec.origin and spec.has_location else []
    return file, list(spec.submodule_search_locations or [])


def _inside(folders: list[Path]) -> list[Path]:
    """All code in a package's folders."""
    found = (file for folder in folders for file in folder.rglob("*"))
    return sorted(file for file in found if file.suffix in CODE and "__pycache__" not in file.parts)


def _package_of(file: Path) -> list[str]:
    """Names of the packages a file is in, outermost first."""
    folder, names = file.parent, list[str]()
    while (folder / "__init__.py").exists():
        names.insert(0, folder.name)
        folder = folder.parent
    return names


def _is_library(file: Path) -> bool:
    paths = sysconfig.get_paths()
    places = {Path(paths[name]).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return not places.isdisjoint(file.resolve().parents)
