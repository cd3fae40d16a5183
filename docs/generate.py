"""Write the pages of docs/ that are made from code or from measurements, and the tables within others.

    python docs/generate.py               rules, settings, tables within pages, external faults
    python docs/generate.py --strength    the same, and strength.md from what `make strength` has just measured

docs/external.md is written from what is kept in docs/measured: its commands are on the page itself. So is
docs/wild.md. Pages are committed, so that the link in a failure's message is a page in a plain checkout, without
building the site.
"""

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
sys.path[:0] = [str(ROOT), str(DOCS)]

from page_writers.external import external_page, external_tables
from page_writers.rules import rule_pages, rules_index
from page_writers.settings import settings_page
from page_writers.strength import strength_page, strength_tables
from page_writers.tables import conventions_table, run_directory_page
from page_writers.wild import wild_page


def rules() -> dict[str, str]:
    """Path in docs/ -> text: the index and a page a rule."""
    return {"rules.md": rules_index(), **{f"rules/{name}": text for name, text in rule_pages().items()}}


def within_pages() -> dict[str, str]:
    """Pages that a person writes, with their tables made anew."""
    layout, conventions = (
        (DOCS / name).read_text(encoding="utf-8") for name in ("run-directory.md", "conventions.md")
    )
    return {"run-directory.md": run_directory_page(layout), "conventions.md": conventions_table(conventions)}


def wild() -> dict[str, str]:
    """The page of loops that others wrote, of what `python -m properties.wild` has measured."""
    path = DOCS / "measured" / "wild.json"
    return {"wild.md": wild_page(read(path))} if path.exists() else {}


def external() -> dict[str, str]:
    """The pages of faults that others collected, of what is in docs/measured."""
    found = {path.stem: read(path) for path in sorted((DOCS / "measured").glob("*.json"))}
    halves = [found[name] for name in ("external_open", "external_held_out") if name in found]
    page = external_page(*halves, left_out=found.get("left_out"), peers=found.get("external_peers"))
    return {"external.md": page, "external-tables.md": external_tables(*halves)}


def strength() -> dict[str, str]:
    """The pages of how strong the suite is, of what `make strength` has just measured."""
    measured, controls = (read(ROOT / "runs" / name) for name in ("strength.json", "controls.json"))
    return {
        "strength.md": strength_page(measured, controls["controls"]),
        "strength-tables.md": strength_tables(measured, controls["controls"]),
    }


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def main(arguments: list[str]) -> int:
    pages = {**rules(), **within_pages(), **external(), **wild(), "settings.md": settings_page()}
    if "--strength" in arguments:
        pages |= strength()
    (DOCS / "rules").mkdir(exist_ok=True)
    for gone in {path.name for path in (DOCS / "rules").glob("*.md")} - {Path(name).name for name in pages}:
        (DOCS / "rules" / gone).unlink()
    for name, text in pages.items():
        (DOCS / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
