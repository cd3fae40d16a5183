"""The page of every setting of `python -m impl train`, from the typed model in impl/config.py and its comments."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

CONFIG = Path(__file__).resolve().parents[2] / "impl" / "config.py"
HEAD = """# Settings of impl

`python -m impl train --config FILE` reads a TOML file of these; what it does not say has its default. `--preset NAME` begins from one of
the files in `impl/presets`: `phase18`, `picollm`, `honest`, `autoresearch`, each the loop of that name at this model's size. A run keeps
what it was given, resolved, in its `config.toml`. What is off by default leaves the default run as it is, to the bit.
[What is covered](coverage.md) says by which rules each of them is graded.

This page is written by `python docs/generate.py` from `impl/config.py`.
"""


def settings_page() -> str:
    """The text of docs/settings.md."""
    tree = ast.parse(CONFIG.read_text(encoding="utf-8"))
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    own, sections = [], []
    for name, kind, default, said in _fields(classes["Config"]):
        if kind in classes:
            sections.append((name, classes[kind]))
        else:
            own.append((name, kind, default, said))
    parts = [HEAD, _table(own)]
    for name, node in sections:
        parts.append(f"## [{name}]\n\n{ast.get_docstring(node) or ''}\n\n{_table(_fields(node))}")
    return "\n".join(parts)


def _fields(node: ast.ClassDef) -> Iterator[tuple[str, str, str, str]]:
    """(name, type, default, what is said of it) of each setting of a class."""
    for item, after in zip(node.body, [*node.body[1:], None], strict=True):
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and item.value is not None:
            said = ""
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                said = " ".join(str(after.value.value).split())
            yield item.target.id, ast.unparse(item.annotation), ast.unparse(item.value), said


def _table(rows: Iterator[tuple[str, str, str, str]] | list[tuple[str, str, str, str]]) -> str:
    lines = ["| setting | default | values | what it does |", "|---|---|---|---|"]
    for name, kind, default, said in rows:
        lines.append(f"| `{name}` | `{_toml(default)}` | {_values(kind)} | {said[:1].upper() + said[1:]} |")
    return "\n".join([*lines, ""])


def _toml(default: str) -> str:
    """A default as it is written in TOML."""
    return {"True": "true", "False": "false"}.get(default, default.replace("'", '"').replace("**", "^"))


def _values(kind: str) -> str:
    """The values that a type allows, in words."""
    if choices := re.fullmatch(r"Literal\[(.*)\]", kind):
        return ", ".join(f"`{choice.strip()}`".replace("'", '"') for choice in choices[1].split(","))
    words = {"Positive": "whole, above 0", "Fraction": "0 to below 1", "bool": "true or false"}
    if kind in words:
        return words[kind]
    number, limits = "whole" if "int" in kind else "number", []
    for name, word in (("gt", "above"), ("ge", "from"), ("lt", "below"), ("le", "to")):
        if found := re.search(rf"{name}=([-\d.* e]+)", kind):
            limits.append(f"{word} {found[1].replace('**', '^').replace(' ', '')}")
    return ", ".join([number, *limits])
