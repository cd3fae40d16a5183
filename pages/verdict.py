"""verdict.html: what was graded, what failed and how to see it again, what a pass would leave open, all the rest."""

from collections.abc import Iterator, Mapping
from typing import Any

from pages import run_parts, verdict_parts
from pages.limits import trimmed
from pages.markup import Child, element
from pages.page import Section, document, facts, mark, within
from pages.run_data import RunData, dig

LIMIT = 300_000
"""Bytes of a page."""
CANNOT_SHOW = (
    "A subject runs with the rights of whoever grades it, and one that sets out to deceive can: the gates are built "
    "against mistakes, and against numbers that nobody checked.",
    "Updates drawn from the whole run are recomputed, not every update of every run.",
    "What holds for this seed, this configuration and this machine was seen here; nothing is said of others.",
)


def page(verdict: Mapping[str, Any], run: RunData | None, rules: Mapping[str, Mapping[str, str]]) -> str:
    """The page of a verdict, at most LIMIT bytes.

    `verdict`: what verdict.json says; `run`: the run that was judged, if there is one; `rules`: id -> statement,
    why, hint, source, wrong and right of the rules.
    """

    def render(characters: int, items: int) -> str:
        short = trimmed(verdict, characters, items)
        shown = None if run is None else _short(run, characters, items)
        return _page(short, shown, rules)

    return within(LIMIT, render)


def _short(run: RunData, characters: int, items: int) -> RunData:
    kept = {
        name: trimmed(getattr(run, name), characters, items)
        for name in ("name", "results", "manifest", "drift", "samples", "evaluation", "absent")
    }
    return RunData(log=run.log, **kept)


def _page(verdict: Mapping[str, Any], run: RunData | None, rules: Mapping[str, Mapping[str, str]]) -> str:
    subject, word = str(verdict.get("subject")), str(verdict.get("verdict"))
    header = [
        element("p", "honestloop: verdict", class_="kicker"),
        element("h1", mark(word), " ", subject),
        element("p", verdict_parts.sentence(verdict), class_="lead"),
        facts(_facts(verdict, run)),
    ]
    footer = [
        element("p", line)
        for line in ("Drawn from verdict.json, which lies beside this page, and the files of the run.",)
    ]
    return document(f"{word}: {subject}", header, _sections(verdict, run, rules), footer)


def _facts(verdict: Mapping[str, Any], run: RunData | None) -> Iterator[tuple[str, Child]]:
    level = verdict.get("level")
    yield "level", f"{dig(level, 'number')}, {dig(level, 'name')}"
    manifest = {} if run is None else run.manifest
    yield "commit of the run", run_parts.commit(manifest)
    yield "graded", run_parts.when(verdict.get("started_at"))
    yield "machine", run_parts.text(verdict.get("machine"))


def _sections(
    verdict: Mapping[str, Any], run: RunData | None, rules: Mapping[str, Mapping[str, str]]
) -> Iterator[Section]:
    if failures := list(verdict_parts.failures(verdict, rules)):
        yield Section("failures", "What failed", *failures)
    if left := list(verdict_parts.left_open(verdict)):
        title = (
            "What this pass leaves open" if verdict.get("verdict") == "PASSED" else "What would void a pass"
        )
        shown = element("ul", *(element("li", line) for line in left))
        yield Section("open", title, element("div", shown, class_="panel caution"))
    yield Section("gates", "Gates", *verdict_parts.gates(verdict))
    if controls := verdict_parts.controls(verdict):
        yield Section("controls", "Controls", *controls)
    if run is not None and run.log:
        note = "As the judged run logged it; the n-gram is the one that it reports. The gates compute both again."
        yield Section("loss", "Loss", element("p", note, class_="muted small"), run_parts.loss(run))
    if run is not None and (drift := run_parts.drift(run)):
        yield Section("drift", "Drift", drift)
    yield Section("again", "To repeat this", *verdict_parts.again(verdict))
    if run is not None and run.manifest:
        yield Section("manifest", "Manifest", *run_parts.manifest(run))
    limits = element("ul", *(element("li", line) for line in CANNOT_SHOW), class_="plain")
    yield Section("limits", "What no verdict can show", element("div", limits, class_="panel"))
