"""The one step between this repository and the wheel: its folders become sub-packages of `honestloop.suite`.

A wheel puts one name into site-packages, `honestloop`. So that a user's own `gates` or `impl` can lie beside it, the
folders of this repository are placed in honestloop/suite/, and every absolute import of one of them, in them and in
honestloop/ itself, is rewritten: `from gates.errors import X` becomes `from honestloop.suite.gates.errors import X`.
"""

import ast
import shutil
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDERS = ("reference", "fixtures", "properties", "gates", "impl", "benchmarks", "pages")
TARGET = "honestloop.suite"


class SuiteHook(BuildHookInterface[Any]):
    """Called by hatchling before it collects the files of a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Stage the rewritten sources, and have the wheel take them in place of the folders."""
        root = Path(self.root)
        staged = Path(self.directory) / "staged"
        shutil.rmtree(staged, ignore_errors=True)
        stage(root, staged)
        build_data["force_include"][str(staged / "honestloop")] = "honestloop"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was staged."""
        shutil.rmtree(Path(self.directory) / "staged", ignore_errors=True)


def stage(root: Path, staged: Path) -> None:
    """Write honestloop/ and, in honestloop/suite/, the other folders, with their imports rewritten."""
    copy(root / "honestloop", staged / "honestloop")
    suite = staged / "honestloop" / "suite"
    for folder in FOLDERS:
        copy(root / folder, suite / folder)
    (suite / "__init__.py").write_text('"""The folders of the repository, as they are in the wheel."""\n')


def copy(source: Path, target: Path) -> None:
    """Copy a folder: Python with its imports rewritten, everything else byte for byte; no caches."""
    for path in sorted(source.rglob("*")):
        if path.is_dir() or "__pycache__" in path.parts or path.name.startswith("."):
            continue
        to = target / path.relative_to(source)
        to.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".py":
            to.write_text(rewritten(path.read_text(encoding="utf-8"), path), encoding="utf-8")
        else:
            shutil.copyfile(path, to)


def rewritten(source: str, path: Path) -> str:
    """The source with every absolute import of a folder pointing into the suite.

    ValueError for `import gates.errors`, which binds a name that would be another one in the wheel.
    """
    lines = source.split("\n")
    for node in ast.walk(ast.parse(source, str(path))):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and is_ours(node.module or ""):
            replace_once(lines, node.lineno, f"from {node.module}", f"from {TARGET}.{node.module}")
        if isinstance(node, ast.Import):
            for alias in node.names:
                if is_ours(alias.name):
                    plain = alias.asname is None and "." in alias.name
                    if plain or len(node.names) > 1:
                        raise ValueError(
                            f"{path}:{node.lineno}: write `from ... import ...` for {alias.name}"
                        )
                    new = f"import {TARGET}.{alias.name}" + (
                        f" as {alias.name}" if alias.asname is None else ""
                    )
                    replace_once(lines, node.lineno, f"import {alias.name}", new)
    return "\n".join(lines)


def is_ours(module: str) -> bool:
    """Whether a module is in one of the folders."""
    return module.partition(".")[0] in FOLDERS


def replace_once(lines: list[str], number: int, old: str, new: str) -> None:
    """Replace in a line, counted from 1. ValueError if the text is not there."""
    if old not in lines[number - 1]:
        raise ValueError(f"line {number} does not say {old!r}")
    lines[number - 1] = lines[number - 1].replace(old, new, 1)
