"""A page that runs nothing and loads nothing: its own policy forbids it to a browser, and it does not try.

The policy is a `meta` element, `default-src 'none'` (W3C, Content Security Policy Level 3), that stands before anything
that could be loaded; what it may allow is its own styles, and images that it holds itself.
"""

from html.parser import HTMLParser

BEFORE_POLICY = frozenset({"html", "head", "meta", "title"})
RUNS_OR_LOADS = frozenset(
    "script iframe frame frameset object embed applet base form link audio video source track portal template "
    "foreignobject image use animate set input button".split()
)
ALLOWED = {
    "default-src": ["'none'"],
    "style-src": ["'unsafe-inline'"],
    "img-src": ["data:"],
    "base-uri": ["'none'"],
    "form-action": ["'none'"],
}
"""What each directive of the policy may say."""
ADDRESSES = frozenset(
    "src href xlink:href action formaction data poster srcset srcdoc background ping".split()
)


def check(data: bytes) -> None:
    """ValueError, which says what it does, for a page that is not inert."""
    reader = _Reader()
    reader.feed(data.decode("utf-8"))
    reader.close()
    if not reader.has_policy:
        raise ValueError("no policy default-src 'none'")


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.has_policy = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = {
            name: value or "" for name, value in reversed(attrs)
        }  # of a name given twice, the first counts
        equiv = said.get("http-equiv", "").strip().lower()
        if tag == "meta" and equiv == "content-security-policy":
            _must_forbid(said.get("content", ""))
            self.has_policy = True
        elif equiv and equiv != "content-type":
            raise ValueError(f"<meta http-equiv={equiv[:40]!r}>")
        if tag not in BEFORE_POLICY and not self.has_policy:
            raise ValueError(f"<{tag[:40]}> before a policy default-src 'none'")
        if tag in RUNS_OR_LOADS:
            raise ValueError(f"<{tag}>")
        for name, value in said.items():
            if name.startswith("on") or (name in ADDRESSES and not _is_harmless(tag, value)):
                raise ValueError(f"<{tag[:40]} {name[:40]}={value[:40]!r}>")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)


def _must_forbid(policy: str) -> None:
    """ValueError unless a policy forbids what is not its own styles and images, and says each thing once."""
    directives = [part.split() for part in policy.lower().split(";") if part.strip()]
    said = {name: sources for name, *sources in reversed(directives)}
    if "default-src" not in said or any(ALLOWED.get(name) != sources for name, sources in said.items()):
        raise ValueError(f"the policy {policy[:80]!r}")


def _is_harmless(tag: str, address: str) -> bool:
    """A place on the page, a page of the web that a reader may go to, an image that is in the page."""
    start = address.strip().lower()
    if tag == "a":
        return start.startswith(("#", "https://", "http://"))
    return tag == "img" and start.startswith("data:image/")
