"""What mkdocs does with the pages of docs/ so that they are a site: `make site`.

The home page, the changes and the guide for contributors are files of the repository's root. A link to a file that is
no page (code, a folder) leads to the repository if GITHUB_REPOSITORY says where it is, and is plain text if not.
"""

import os
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
FROM_THE_ROOT = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
FOREIGN = re.compile(
    r"<(?:script|link(?! rel=.?canonical)|img|iframe|source)\b[^>]*?\b(?:src|href)=.?https?://[^>]*>"
)
FENCE = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)


def on_files(files: Any, config: Any) -> Any:
    """Add the pages of the repository's root."""
    for name, page in FROM_THE_ROOT.items():
        files.append(File.generated(config, page, content=(ROOT / name).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Have every link that is no page lead somewhere else; code is left alone."""
    own = {page: name for name, page in FROM_THE_ROOT.items()}.get(page.file.src_uri)
    place = "" if own else posixpath.join("docs", posixpath.dirname(page.file.src_uri))
    pages = {**{f"docs/{file.src_uri}": file.src_uri for file in files}, **FROM_THE_ROOT}
    here = posixpath.dirname(page.file.src_uri)

    def moved(found: re.Match[str]) -> str:
        picture, said, target = found.groups()
        if (said := LINK.sub(moved, said)) == "":  # a picture that only the repository has
            return ""
        path, hash_mark, anchor = target.partition("#")
        if not path or "://" in path:
            return found[0]
        file = posixpath.normpath(posixpath.join(place, path))
        if file in pages:
            return f"{picture}[{said}]({posixpath.relpath(pages[file], here or '.')}{hash_mark}{anchor})"
        if (ROOT / file).exists() and (url := repository()):
            return f"[{said}]({url}/{file})"
        return "" if picture else said

    parts = FENCE.split(markdown)
    return "".join(part if part.startswith("```") else LINK.sub(moved, part) for part in parts)


def on_post_page(output: str, page: Any, config: Any) -> str:
    """PluginError if a built page would ask another server for anything: a script, a style, a font, a picture."""
    if found := FOREIGN.search(output):
        raise PluginError(f"{page.file.src_uri} asks another server: {found[0]}")
    return output


def repository() -> str:
    """Where the files of the newest commit are shown; "" if nobody says."""
    name = os.environ.get("GITHUB_REPOSITORY")
    return f"https://github.com/{name}/blob/HEAD" if name else ""
