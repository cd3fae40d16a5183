"""`honestloop init`: a package with a loop, its adapter and its description, or the adapter of a framework alone."""

import os
import tempfile
from importlib import resources
from pathlib import Path

import honestloop.templates.adapters as adapters
import honestloop.templates.loop as template

FILES = ("__init__.py", "loop.py", "adapter.py", "train.py", "score.py", "subject.toml")
FRAMEWORKS = ("trainer", "lightning", "keras")
"""Whose adapters there are; the rest of honestloop/templates/adapters is what they share."""
DATA = ("data/train.jsonl", "data/val.jsonl")


def make(name: str, where: Path) -> list[Path]:
    """Write the package `name` into a folder; the paths written, relative to it.

    ValueError if the name is no identifier that can be imported, or if something of that name is there.
    """
    folder = free_name(name, where)
    source = resources.files(template)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=where) as temporary:
        (Path(temporary) / "data").mkdir()
        for file in (*FILES, *DATA):
            text = source.joinpath(*file.split("/")).read_text(encoding="utf-8")
            if file == "subject.toml":
                text = text.replace("NAME", name)
            (Path(temporary) / file).write_text(text, encoding="utf-8")
        os.chmod(temporary, 0o755)
        os.rename(temporary, folder)
        os.mkdir(temporary)  # for the context manager to remove
    return [Path(name) / file for file in (*FILES, *DATA)]


def make_adapter(name: str, where: Path, framework: str) -> list[Path]:
    """Write the adapter of a framework as the module `name` into a folder; its path, relative to it.

    ValueError as `make` has it.
    """
    free_name(name, where)
    text = resources.files(adapters).joinpath(f"{framework}.py").read_text(encoding="utf-8")
    path = Path(f"{name}.py")
    with (where / path).open("x", encoding="utf-8") as file:
        file.write(text)
    return [path]


def free_name(name: str, where: Path) -> Path:
    """The folder of a package of this name. ValueError unless it can be imported, and nothing is there."""
    if not name.isidentifier() or not name.isascii():
        raise ValueError(
            f"{name!r} is no name of a Python package: letters, digits and _ only, no digit first"
        )
    folder = where / name
    for path in (folder, where / f"{name}.py"):
        if path.exists():
            raise ValueError(f"{path}: exists already; choose another name")
    return folder
