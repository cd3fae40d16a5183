"""No link of the README or of docs/ is dead in a plain checkout; the README is short, and its figures are measured.

`make site` builds the same pages with mkdocs, and looks once more, at what the site makes of them.
"""

import re
from pathlib import Path

import pytest

from honestloop.suite_location import ROOT

PAGES = [*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
ON_THE_SERVER = "../../raw/badges/"
"""What GitHub resolves within the repository, and no checkout has."""
MOST_WORDS = 900
FIRST_SCREEN = 40
"""Lines of a page that are seen without scrolling, more or less."""


def prose(page: Path) -> str:
    """Without blocks of code."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """Of headings, as GitHub and the site make them, and those that are written."""
    text = prose(page)
    titles = [
        re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", title)
        for title in re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    ]
    kept = [
        "".join(letter for letter in title.lower() if letter.isalnum() or letter in " -_") for title in titles
    ]
    return {title.strip().replace(" ", "-") for title in kept} | set(re.findall(r'<a id="([^"]+)">', text))


@pytest.mark.parametrize("page", [pytest.param(p, id=p.relative_to(ROOT).as_posix()) for p in PAGES])
def test_no_link_is_dead(page):
    for target in LINK.findall(prose(page)):
        path, _, anchor = target.partition("#")
        if "://" in path or path.startswith(ON_THE_SERVER):
            continue
        to = (page.parent / path).resolve() if path else page
        assert to.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(to), f"{page.name}: {target}"


def test_the_readme_is_short_and_its_first_screen_shows_a_failure():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.split()) <= MOST_WORDS
    first = "\n".join(text.splitlines()[:FIRST_SCREEN])
    for shown in (
        "pip install",
        "honestloop check",
        "behaves like: ",
        "make gates",
        "make test",
        "docs/wild.md",
    ):
        assert shown in first
    assert "OWNER" not in text


def test_the_figures_of_the_readme_are_those_of_the_pages():
    """Which are written from what their commands measured."""
    table = re.findall(
        r"^\| [^|]+ \| ([\d][^|]*) \| \[`[^`]+`\]\((docs/[^)]+)\) \|$",
        (ROOT / "README.md").read_text(),
        re.MULTILINE,
    )
    assert len(table) == 4
    for figure, page in table:
        text = (ROOT / page).read_text(encoding="utf-8")
        held_out = text[text.index("## The held-out half") :] if "external" in page else text
        for number in figure.strip().split(", "):
            assert f"| {number} " in held_out, f"README.md: {number} is not on {page}"
