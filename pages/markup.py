"""HTML that is escaped by construction: `element` is the only way to markup, and every other value is text.

Tags, attributes, addresses and styles are held to short lists, so that no value, whoever wrote it, becomes markup, a
script, or a request.
"""

import re
from collections.abc import Iterable
from html import escape

TAGS = frozenset(
    "html head meta title style body header main footer nav section article h1 h2 h3 h4 p div span a ul ol li dl dt dd "
    "table caption thead tbody tr th td details summary figure figcaption pre code strong em svg path line g".split()
)
VOID = frozenset({"meta"})
ATTRIBUTES = frozenset(
    "lang charset name content http-equiv class id href style role aria-label aria-hidden aria-labelledby scope open "
    "tabindex data-label viewBox preserveAspectRatio d x1 x2 y1 y2 vector-effect colspan".split()
)
ADDRESS = re.compile(r"(?:https?://|#)[^\s\"'<>\\]*", re.ASCII)
"""What a link may lead to: a page of the web, or a place on this page."""
STYLE = re.compile(r"(?:(?:left|top|width|--[a-z]+):-?[0-9.]+(?:%|px|rem)?;)*", re.ASCII)
"""What a style attribute may say: where something is."""


class Markup(str):
    """Text that is HTML already. Only this module makes it."""

    __slots__ = ()


Child = Markup | str | int | None | Iterable["Child"]


def element(tag: str, *children: Child, **attributes: str | int | bool | None) -> Markup:
    """An element. `class_`, `aria_label` and the like are written with `_` for what Python has no name for.

    An attribute that is None or False is left out. ValueError for a tag, an attribute, an address or a style that is on
    none of the lists: a mistake of whoever calls, never a matter of what a subject wrote.
    """
    if tag not in TAGS:
        raise ValueError(f"no such element here: {tag!r}")
    said = "".join(
        _attribute(name.rstrip("_").replace("_", "-"), value)
        for name, value in attributes.items()
        if value is not None and value is not False
    )
    if tag in VOID:
        return Markup(f"<{tag}{said}>")
    return Markup(f"<{tag}{said}>{joined(children)}</{tag}>")


def joined(children: Child) -> Markup:
    """Children one after the other; what is no markup is text."""
    if isinstance(children, Markup):
        return children
    if children is None:
        return Markup("")
    if isinstance(children, str | int):
        return Markup(escape(shown(str(children)), quote=True))
    return Markup("".join(joined(child) for child in children))


def link(text: str, address: str) -> Markup:
    """A link, or the text alone where the address is none that may be followed."""
    if ADDRESS.fullmatch(address) is None:
        return joined(text)
    return element("a", text, href=address)


def shown(text: str) -> str:
    """The text with control characters, directions of writing and lone surrogates made visible; lines stay lines."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or letter == "\n" else letter.encode("unicode_escape").decode()
        for letter in text.replace("\t", "    ")
    )


def style_sheet(css: str) -> Markup:
    """A `style` element; the sheet is ours."""
    if "<" in css:
        raise ValueError("a style sheet with < in it")
    return Markup(f"<style>{css}</style>")


def _attribute(name: str, value: str | int | bool) -> str:
    if name not in ATTRIBUTES:
        raise ValueError(f"no such attribute here: {name!r}")
    if value is True:
        return f" {name}"
    text = shown(str(value))
    if name == "href" and ADDRESS.fullmatch(text) is None:
        raise ValueError(f"no address of a page: {text!r}")
    if name == "style" and STYLE.fullmatch(text) is None:
        raise ValueError(f"a style that says more than a place: {text!r}")
    return f' {name}="{escape(text, quote=True)}"'
