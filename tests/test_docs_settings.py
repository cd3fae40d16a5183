"""docs/settings.md: every setting of impl, with its default."""

import re

from impl.config import Config
from tests.page_generator import DOCS, generator


def test_the_page_of_settings_is_made_from_the_configuration():
    """`python docs/generate.py` writes it."""
    page = (DOCS / "settings.md").read_text(encoding="utf-8")
    assert page == generator("page_writers/settings").settings_page()


def test_the_page_has_every_setting():
    page = (DOCS / "settings.md").read_text(encoding="utf-8")
    shown = re.findall(r"(?m)^(?:## \[(\w+)\]|\| `(\w+)`)", page)
    section, found = "", set()
    for heading, name in shown:
        section = heading or section
        if name:
            found.add(f"{section}.{name}" if section else name)
    plain = Config().as_dict()
    expected = {k for k, v in plain.items() if not isinstance(v, dict)}
    expected |= {f"{k}.{inner}" for k, v in plain.items() if isinstance(v, dict) for inner in v}
    assert found == expected
