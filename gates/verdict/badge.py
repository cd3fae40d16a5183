"""The verdict as a badge: the content of a shields.io endpoint, and an image."""

from html import escape
from typing import Any

from gates.verdict.outcome import FAILED, INCOMPLETE, PASSED, Verdict
from honestloop.description import Level

GREEN, OLIVE, RED, YELLOW = "1f7a1f", "5f6b00", "c2261d", "8a6100"
"""White letters on each have a contrast of at least 4.5 to 1 (WCAG 2, AA)."""
COLOURS = {PASSED: GREEN, FAILED: RED, INCOMPLETE: YELLOW}
EXPECTED_COLOUR = OLIVE


def badge(verdict: Verdict) -> dict[str, Any]:
    """A badge in the format of a shields.io endpoint. It is green if every gate ran and passed, and only then.

    Expected failures are counted in its text, and take the plain green away.
    """
    words = [verdict.of_gate(g.name) for g in verdict.gates]
    passed, failed = (f"{words.count(word)} of {len(words)} gates" for word in (PASSED, FAILED))
    said = {
        PASSED: f"passed {passed}",
        FAILED: f"failed {failed}" if FAILED in words else "failed",
        INCOMPLETE: f"incomplete: passed {passed}",
    }[verdict.overall]
    colour = COLOURS[verdict.overall]
    if count := len(verdict.failed_as_expected):
        said += f", {count} expected failure{'s' * (count > 1)}"
        colour = EXPECTED_COLOUR if verdict.overall == PASSED else colour
    level = "" if verdict.level == Level.PHASE_18 else f"level {int(verdict.level)}: "
    return {
        "schemaVersion": 1,
        "label": "honestloop" if verdict.subject == "impl" else f"honestloop: {verdict.subject}",
        "message": level + said,
        "color": colour,
    }


def badge_svg(content: dict[str, Any]) -> str:
    """The same badge as an image, in the flat style; text widths are estimated at 6.5 px a character."""
    left, right = (round(10 + 6.5 * len(content[part])) for part in ("label", "message"))
    label, message = escape(content["label"]), escape(content["message"])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="20" role="img" '
        f'aria-label="{label}: {message}"><title>{label}: {message}</title>'
        f'<rect width="{left}" height="20" fill="#555"/>'
        f'<rect x="{left}" width="{right}" height="20" fill="#{content["color"]}"/>'
        '<g fill="#fff" text-anchor="middle" font-family="Verdana,Geneva,DejaVu Sans,sans-serif" font-size="11">'
        f'<text x="{left / 2}" y="14">{label}</text><text x="{left + right / 2}" y="14">{message}</text></g></svg>\n'
    )
