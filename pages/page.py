"""The frame of every page: a document that may run nothing and load nothing, and the parts that pages share."""

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path

from pages.markup import Child, Markup, element, link, style_sheet

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
"""What a browser is told: styles of the page itself, and nothing else from anywhere."""
MARKS = {
    "PASSED": ("✓", "ok"),
    "FAILED": ("✗", "bad"),
    "ACCEPTED": ("✗", "bad"),
    "REFUSED": ("✓", "ok"),
    "NOT RUN": ("–", "warn"),
    "INCOMPLETE": ("–", "warn"),
    "EXPECTED FAILURE": ("!", "warn"),
    "NOT OFFERED": ("○", "none"),
    "HOLDS": ("✓", "ok"),
    "BROKEN": ("✗", "bad"),
    "BLOCKED": ("–", "warn"),
}
"""Word -> its symbol and its colour: none of the three has to be told from the others."""
LONGEST_NUMBER = 24
"""Characters."""
SIZES = ((1500, 400), (600, 200), (200, 80), (80, 30), (40, 10))
"""Characters of a text and entries of a list that others wrote, generous first."""


@cache
def _style() -> Markup:
    return style_sheet(Path(__file__).with_name("style.css").read_text(encoding="utf-8"))


def document(title: str, header: Child, sections: Iterable["Section"], footer: Child) -> str:
    """A whole page; its sections are listed at the top."""
    shown = list(sections)
    listed = element(
        "nav",
        element("ul", *(element("li", link(s.title, f"#{s.anchor}")) for s in shown)),
        aria_label="On this page",
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", **{"http-equiv": "Content-Security-Policy", "content": POLICY}),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        _style(),
    )
    body = element(
        "body",
        element("header", header, listed if len(shown) > 1 else None),
        element("main", *(s.markup for s in shown)),
        element("footer", footer),
    )
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


class Section:
    """A part of a page, with a title that is a place to link to."""

    def __init__(self, anchor: str, title: str, *children: Child) -> None:
        self.anchor, self.title = anchor, title
        self.markup = element("section", element("h2", title), *children, id=anchor)


def within(limit: int, render: Callable[[int, int], str]) -> str:
    """The page of the most generous texts that has at most `limit` bytes; else the one of the shortest."""
    page = ""
    for characters, items in SIZES:
        page = render(characters, items)
        if len(page.encode()) <= limit:
            break
    return page


def mark(word: str) -> Markup:
    """A word with its symbol, in its colour."""
    symbol, kind = MARKS.get(word, ("", "none"))
    return element("span", f"{symbol} {word}".strip(), class_=f"mark {kind}")


def facts(pairs: Iterable[tuple[str, Child]]) -> Markup | None:
    """Names and values side by side, as many as fit; those without a value are left out."""
    told = [(name, value) for name, value in pairs if value not in (None, "")]
    return (
        element(
            "dl",
            *(element("div", element("dt", name), element("dd", value)) for name, value in told),
            class_="facts",
        )
        if told
        else None
    )


def listed(pairs: Iterable[tuple[str, Child]]) -> Markup:
    """Names and values, one below the other."""
    rows = [(element("dt", name), element("dd", value)) for name, value in pairs]
    return element("dl", *rows, class_="listed")


def folded(title: Child, *children: Child, is_open: bool = False) -> Markup:
    """What is shown when it is asked for; nothing but the keyboard or the mouse is needed."""
    return element("details", element("summary", title), *children, open=is_open)


def table(heads: Sequence[str], rows: Iterable[Sequence[Child]], numbers: Sequence[int] = ()) -> Markup:
    """A table; narrow pages show each row as a block with the column's name before each value."""
    kinds = ["number" if number in numbers else None for number in range(len(heads))]
    top = element(
        "tr", *(element("th", head, scope="col", class_=k) for head, k in zip(heads, kinds, strict=True))
    )
    body = [
        element(
            "tr",
            *(
                element("td", cell, class_=_kept_whole(cell, k), data_label=head if column and head else None)
                for column, (cell, head, k) in enumerate(zip(row, heads, kinds, strict=True))
            ),
        )
        for row in rows
    ]
    return element("table", element("thead", top), element("tbody", *body), class_="stack")


def _kept_whole(cell: Child, kind: str | None) -> str | None:
    """The class of a cell of numbers, which are not broken into lines; a long text in their place is."""
    return None if isinstance(cell, str) and len(cell) > LONGEST_NUMBER else kind


def code(text: str) -> Markup:
    """Lines to copy."""
    return element("pre", element("code", text))
