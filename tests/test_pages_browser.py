"""The pages in a real browser: nothing sticks out, all text is legible, keys reach everything, nothing is asked for."""

import pytest

from pages import properties, run, verdict
from tests import browser, shown_pages
from tests.browser import measured

WIDTHS = (390, 830, 1440)
CONTRAST = 4.5
"""WCAG 2.2, success criterion 1.4.3."""


def pages() -> dict[str, str]:
    """One of each kind, of usual facts and of hostile ones."""
    texts = shown_pages.RULE_TEXTS
    attack = "".join(shown_pages.ATTACKS) + "w" * 300
    return {
        "report.html": run.report(shown_pages.run()),
        "verdict.html": verdict.page(shown_pages.verdict(), shown_pages.run(), texts),
        "properties.html": properties.page(shown_pages.grading(), texts),
        "attacked.html": verdict.page(
            shown_pages.attacked(shown_pages.verdict(), attack), shown_pages.attacked_run(attack), texts
        ),
    }


@pytest.fixture(scope="module", params=list(browser.SCHEMES))
def seen(request):
    """What the browser measured in one colour scheme, and what it asked for."""
    found, asked = measured(pages(), request.param, WIDTHS)
    return request.param, found, asked


def test_nothing_sticks_out_at_any_width(seen):
    _, found, _ = seen
    assert len(found) == len(pages()) * len(WIDTHS)
    for name, page in found.items():
        assert page["text"] > 500, name
        assert page["closed"][0] <= page["closed"][1] == int(name.split()[1]), name
        assert page["open"][0] <= page["open"][1], name
        assert (page["outside"], page["clipped"]) == ([], []), name


def test_every_text_can_be_read(seen):
    scheme, found, _ = seen
    for name, page in found.items():
        assert page["dark"] == (scheme == "dark"), name
        assert page["texts"] > 40
        assert page["worst"][0][0] >= CONTRAST, (name, page["worst"])


def test_the_keyboard_reaches_everything(seen):
    for name, page in seen[1].items():
        assert page["focusable"] > 3, name
        assert page["unreached"] == [], name


def test_nothing_is_run_or_asked_for(seen):
    _, found, asked = seen
    for name, page in found.items():
        assert (page["active"], page["requests"]) == (0, []), name
    names = {f"/{name}" for name in pages()}
    assert set(asked) <= {"/", "/favicon.ico", *names}
    assert sorted(path for path in asked if path in names) == sorted([*names] * len(WIDTHS))


WRONG = """<!DOCTYPE html><html><head><meta charset="utf-8"><title>x</title></head><body style="margin:0">
<p style="color:#999;background:#fff">too faint</p><div style="width:1500px">too wide</div>
<div style="width:80px;overflow:hidden"><div style="width:200px">cut off</div></div>
<a href="#x" tabindex="-1">out of reach</a><img src="/asked-for.png"></body></html>"""


def test_a_page_that_is_wrong_is_found_out():
    found, asked = measured({"wrong.html": WRONG}, "light", (1440,))
    page = found["wrong.html 1440"]
    assert page["closed"][0] > page["closed"][1]
    assert page["outside"] and page["clipped"] and page["unreached"]
    assert page["worst"][0][0] < CONTRAST
    assert page["active"] == 1 and "/asked-for.png" in asked


@pytest.mark.parametrize(
    ("told", "outcome"),
    [
        ({"HONESTLOOP_BROWSER": "required"}, pytest.fail.Exception),
        ({}, pytest.skip.Exception),
    ],
)
def test_without_a_browser_it_fails_where_it_must_run(tmp_path, monkeypatch, told, outcome):
    """A skip is for a developer's own machine alone."""
    monkeypatch.delenv("HONESTLOOP_BROWSER", raising=False)
    for name, value in {"PATH": str(tmp_path), **told}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(outcome, match=r"^no headless Chromium: apt-get install chromium-headless-shell$"):
        browser.browser()
