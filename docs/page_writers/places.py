"""Where things are: files of the repository as links from a page, which a plain checkout follows."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def link_to(path: str, *, said: str = "", up: str = "..") -> str:
    """A link from a page to a file or folder of the repository, `up` steps above the page.

    FileNotFoundError if there is no such file: a page never points nowhere.
    """
    if not (ROOT / path).exists():
        raise FileNotFoundError(path)
    return f"[`{said or path}`]({up}/{path})"


def rule_link(rule: str, folder: str = "rules/") -> str:
    """A link to the page of a rule, from a page of docs/ or, with no folder, from that of another rule."""
    return f"[{rule}]({folder}{rule.lower()}.md)"


def sentence(text: str) -> str:
    """With a capital and a full stop."""
    return text[:1].upper() + text[1:] + "."


def cell(text: str) -> str:
    """Text that stays in one cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")
