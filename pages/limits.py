"""What others wrote, cut to a size that a page can show, each cut with a note."""

from typing import Any

Values = dict[str, Any]


def trimmed(value: Any, characters: int, items: int, depth: int = 12) -> Any:
    """The value with every text cut to `characters` and every list or object to `items`; a note says what is left out.

    Beyond `depth` levels only the kind of a value is told.
    """
    if isinstance(value, str):
        return cut(value, characters)
    if isinstance(value, dict):
        if depth == 0:
            return f"(an object of {len(value)} fields)"
        kept = {
            cut(str(key), characters): trimmed(inner, characters, items, depth - 1)
            for key, inner in list(value.items())[:items]
        }
        return kept | ({"...": f"{len(value) - items:,} more"} if len(value) > items else {})
    if isinstance(value, list | tuple):
        if depth == 0:
            return f"(a list of {len(value)})"
        short = [trimmed(inner, characters, items, depth - 1) for inner in value[:items]]
        if len(value) > items and not all(isinstance(inner, dict) for inner in short):
            short.append(f"... {len(value) - items:,} more")
        return short
    return value


def cut(text: str, characters: int) -> str:
    """The start of a text, with a note of how long it was."""
    if len(text) <= characters:
        return text
    return f"{text[:characters]}... (cut: {len(text):,} characters)"
