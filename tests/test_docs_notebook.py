"""docs/notebook.ipynb does what it shows: its cells run in order, and each prints the output that is kept beside it.

python -m tests.test_docs_notebook    runs them, and keeps what they print
"""

import contextlib
import io
import json
from typing import Any

from honestloop.suite_location import ROOT

NOTEBOOK = ROOT / "docs" / "notebook.ipynb"


def run() -> tuple[dict[str, Any], list[str]]:
    """The notebook, and what each cell of code printed."""
    notebook: dict[str, Any] = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    names: dict[str, Any] = {"__name__": "__main__"}
    printed = []
    for cell in code_of(notebook):
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
        printed.append(out.getvalue())
    return notebook, printed


def code_of(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def kept(cell: dict[str, Any]) -> str:
    """The output that the file has for a cell."""
    return "".join(line for output in cell["outputs"] for line in output["text"])


def test_every_cell_prints_what_is_kept():
    notebook, printed = run()
    assert [kept(cell) for cell in code_of(notebook)] == printed
    assert "behaves like: a legal choice that is not declared: declare schedule = 'cs336'" in printed[1]
    assert printed[-1].endswith("2 rules hold, 0 are broken; 0 not offered\n")


def test_it_is_a_notebook_of_version_4():
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(ids) == len(set(ids))
    for cell in notebook["cells"]:
        assert {"cell_type", "id", "metadata", "source"} <= cell.keys()


def keep() -> None:
    """Write what the cells print into the file."""
    notebook, printed = run()
    for number, (cell, text) in enumerate(zip(code_of(notebook), printed, strict=True), 1):
        stream = {"output_type": "stream", "name": "stdout", "text": text.splitlines(keepends=True)}
        cell["execution_count"], cell["outputs"] = number, [stream] if text else []
    NOTEBOOK.write_text(json.dumps(notebook, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    keep()
