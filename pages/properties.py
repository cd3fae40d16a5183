"""properties.html: what the properties found about an adapter, a block a rule that is broken, the rest folded."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pages import run_parts
from pages.limits import trimmed
from pages.markup import Child, Markup, element
from pages.numbers import is_drawn, plain
from pages.page import Section, code, document, facts, folded, mark, table, within
from pages.run_data import entries
from pages.run_parts import text
from pages.verdict_parts import advice, explained, got_and_expected, words

LIMIT = 600_000
"""Bytes of a page."""
COMPARED = re.compile(
    r"(?P<what>.*?)(?:: )?\bgot (?P<got>.+?), expected (?P<expected>.+?)(?:; (?P<more>.*))?", re.DOTALL
)
Rules = Mapping[str, Mapping[str, str]]


def page(report: Mapping[str, Any], rules: Rules) -> str:
    """The page of a grading, at most LIMIT bytes.

    `report`: subject, profile, started_at, machine, summary, complaints (lines), not_offered (names), rules, each with
    rule, status, statement, examples, margins (dtype -> error / bound), reason, and failures; a failure has test, text,
    found (lines), behaves_like (lines), snippet (lines) and reproduce.
    """
    return within(LIMIT, lambda characters, items: _page(_short(report, characters, items), rules))


def _short(report: Mapping[str, Any], characters: int, items: int) -> Mapping[str, Any]:
    """The rules all stay: there are as many as the table has."""
    told = {key: trimmed(value, characters, items) for key, value in report.items() if key != "rules"}
    return told | {"rules": [trimmed(rule, characters, items) for rule in entries(report.get("rules"))]}


def _page(report: Mapping[str, Any], rules: Rules) -> str:
    graded = entries(report.get("rules"))
    of = {word: [r for r in graded if r.get("status") == word] for word in WORDS}
    word = "BROKEN" if of["broken"] or report.get("complaints") else "HOLDS" if of["holds"] else "NOT RUN"
    subject = str(text(report.get("subject")))
    header = [
        element("p", "honestloop: properties", class_="kicker"),
        element("h1", mark(word), " ", subject),
        element("p", _sentence(of), class_="lead"),
        facts(
            [
                ("profile", text(report.get("profile"))),
                ("graded", run_parts.when(report.get("started_at"))),
                ("machine", text(report.get("machine"))),
                ("rules", text(report.get("summary"))),
            ]
        ),
    ]
    footer = element(
        "p",
        "The functions of an adapter, held to the rules one by one. A whole run is judged by `honestloop grade`.",
    )
    return document(f"{word}: {subject}", header, _sections(report, of, rules), footer)


WORDS = ("holds", "broken", "expected failure", "blocked", "not offered")


def _sentence(of: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    broken = of["broken"]
    if broken:
        names = ", ".join(str(r.get("rule")) for r in broken[:8]) + (", ..." if len(broken) > 8 else "")
        return f"Broken: {len(broken)} of {len(broken) + len(of['holds'])} rules that were decided ({names})."
    if of["holds"]:
        held = len(of["holds"])
        return f"{held} rule{'s hold' if held > 1 else ' holds'}, in every example that was tried."
    return "Nothing was graded."


def _sections(
    report: Mapping[str, Any], of: Mapping[str, Sequence[Mapping[str, Any]]], rules: Rules
) -> Iterator[Section]:
    complaints = [
        element("article", element("p", line), class_="panel failure")
        for line in words(report.get("complaints"))
    ]
    if failures := [*(_block(rule, rules) for rule in of["broken"]), *complaints]:
        yield Section("failures", "What is broken", *failures)
    if left := list(_left_open(report, of)):
        yield Section("open", "What this leaves open", element("div", left, class_="panel caution"))
    if of["holds"]:
        yield Section("holds", "What holds", *_holding(of["holds"]))


def _block(rule: Mapping[str, Any], rules: Rules) -> Markup:
    """One rule that is broken: its first failure in full, the others (another dtype, another function) folded."""
    name, failures = str(rule.get("rule")), entries(rule.get("failures"))
    first = failures[0] if failures else {}
    law = rules.get(name, {})
    more = [
        element("div", element("h4", text(f.get("test"))), _compared(words(f.get("found"))))
        for f in failures[1:]
    ]
    snippet = words(first.get("snippet"))
    found = words(first.get("found"))
    return element(
        "article",
        element("h3", mark("BROKEN"), " ", name),
        element("p", text(rule.get("statement")), class_="statement"),
        _compared(found) if found else element("p", text(first.get("text") or rule.get("reason"))),
        advice(
            [
                ("behaves like", "; ".join(words(first.get("behaves_like")))),
                ("look for", law.get("hint")),
                ("symptom", law.get("why")),
                ("found by", element("code", text(first.get("test"))) if first.get("test") else None),
            ]
        ),
        [element("h4", "reproduce"), code(str(first["reproduce"]))] if first.get("reproduce") else None,
        folded("snippet to copy", code("\n".join(snippet))) if snippet else None,
        folded(f"{len(more)} more test{'s' * (len(more) > 1)} of this rule failed", *more) if more else None,
        explained(name, law),
        class_="panel failure",
    )


def _compared(lines: Sequence[str]) -> list[Child]:
    """What was found: got beside expected where a line has both."""
    shown: list[Child] = []
    for line in lines:
        match = COMPARED.fullmatch(line)
        if match is None:
            shown.append(element("p", line))
            continue
        shown.append(element("p", match["what"]) if match["what"] else None)
        shown.append(got_and_expected(match["got"], match["expected"]))
        shown.append(element("p", match["more"]) if match["more"] else None)
    return shown


def _left_open(report: Mapping[str, Any], of: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[Child]:
    """Declared failures, what rests on a broken rule, what is not offered."""
    for rule in of["expected failure"]:
        yield element(
            "p", mark("EXPECTED FAILURE"), f" {rule.get('rule')}, as declared: {text(rule.get('reason'))}."
        )
    if blocked := of["blocked"]:
        many = f"{len(blocked)} rule{'s rest' if len(blocked) > 1 else ' rests'} on one that is broken"
        lines = [
            element("li", f"{r.get('rule')}: {text(r.get('statement'))} ({text(r.get('reason'))})")
            for r in blocked
        ]
        yield folded([mark("BLOCKED"), f" {many}"], element("ul", *lines, class_="plain small"))
    if of["not offered"]:
        names = ", ".join(words(report.get("not_offered")))
        yield element(
            "p", mark("NOT OFFERED"), f" {len(of['not offered'])} of the rules, for want of {names}."
        )


def _holding(held: Sequence[Mapping[str, Any]]) -> Iterator[Markup]:
    """The rules that hold, folded by family, with the largest share of a derived bound that was used."""
    families: dict[str, list[Mapping[str, Any]]] = {}
    for rule in held:
        families.setdefault(str(rule.get("rule")).partition("-")[0], []).append(rule)
    yield element(
        "p",
        "The margin is the largest error that was seen, as a share of its derived rounding bound.",
        class_="muted small",
    )
    rows = [
        element(
            "details",
            element(
                "summary",
                element("span", mark("HOLDS")),
                element("span", element("strong", family), f" {len(inner)} rule{'s' * (len(inner) > 1)}"),
                element("span", _nearest(inner), class_="margin small"),
            ),
            table(
                ["rule", "what must be true", "examples", "margin"],
                [
                    [
                        element("strong", text(r.get("rule"))),
                        text(r.get("statement")),
                        text(r.get("examples")),
                        _margins(r),
                    ]
                    for r in inner
                ],
                (2,),
            ),
        )
        for family, inner in families.items()
    ]
    yield element("div", *rows, class_="rows")


def _nearest(rules: Sequence[Mapping[str, Any]]) -> Child:
    shares = [(v, r) for r in rules for _, v in _shares(r)]
    if not shares:
        return element("span", "exact: nothing differs", class_="muted")
    share, rule = max(shares, key=lambda found: found[0])
    style = f"width:{min(share, 1.0) * 100:.1f}%;"
    return [
        element("span", element("span", style=style), class_="gauge", aria_hidden="true"),
        f"{rule.get('rule')}: {plain(100 * share, 3)} % of its bound",
    ]


def _shares(rule: Mapping[str, Any]) -> list[tuple[str, float]]:
    margins = rule.get("margins")
    found = margins.items() if isinstance(margins, Mapping) else ()
    return [(str(name), value) for name, value in found if is_drawn(value) and value >= 0]


def _margins(rule: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {plain(100 * share, 3)} %" for name, share in _shares(rule)) or "exact"
