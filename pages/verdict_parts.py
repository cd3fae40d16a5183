"""The parts of a page that show a verdict: failures first, what is left open, gates, controls."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pages.markup import Child, Markup, element
from pages.numbers import is_drawn, plain
from pages.page import code, facts, folded, mark, table
from pages.run_data import entries
from pages.run_parts import exact, text

LIKENESS = re.compile(r" ?\(behaves like: ([^()]*(?:\([^()]*\)[^()]*)*)\)")
Rules = Mapping[str, Mapping[str, str]]
OUTCOMES = {"PASSED": "REFUSED", "FAILED": "ACCEPTED"}
"""What is said of a control: refused is right."""


def words(value: Any) -> list[str]:
    """The texts of a list; nothing if it is none."""
    return [str(text(entry)) for entry in value] if isinstance(value, list) else []


def pairs(value: Any) -> list[tuple[str, str]]:
    """Names and reasons."""
    return [(str(name), str(text(why))) for name, why in value.items()] if isinstance(value, Mapping) else []


def failing(verdict: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(gate, check) of the checks that failed, in the order of the gates."""
    for gate in entries(verdict.get("gates")):
        for check in entries(gate.get("checks")):
            if check.get("verdict") == "FAILED":
                yield str(gate.get("gate")), check


def sentence(verdict: Mapping[str, Any]) -> str:
    """The verdict in one sentence."""
    gates, word = entries(verdict.get("gates")), verdict.get("verdict")
    failed = [str(g.get("gate")) for g in gates if g.get("verdict") == "FAILED"]
    waiting = [str(g.get("gate")) for g in gates if g.get("verdict") == "NOT RUN"]
    if failed:
        first = next(failing(verdict), None)
        reasons = [
            line for g in gates if g.get("verdict") == "FAILED" for line in words(g.get("broken_because"))
        ]
        why = f": {reasons[0]}" if reasons else ""
        if first is not None:
            why = (
                f": {first[0]}/{first[1].get('check')}: {first[1].get('problem') or first[1].get('message')}"
            )
        names = f" ({', '.join(failed)})" if len(failed) > 1 else ""
        return f"Failed {len(failed)} of {len(gates)} gate{'s' * (len(gates) != 1)}{names}{why}"
    if word == "PASSED":
        declared = len(pairs(verdict.get("expected_failures")))
        more = f"; {declared} failure{'s' * (declared > 1)} as declared" if declared else ""
        return f"Passed {len(gates)} of {len(gates)} gate{'s' * (len(gates) != 1)}{more}."
    if held := pairs(verdict.get("expected_and_held")):
        return f"{held[0][0]} is declared not to hold, and holds: remove the declaration"
    if problems := words(verdict.get("file_problems")):
        return problems[0]
    reason = f": interrupted by {verdict['interrupted']}" if verdict.get("interrupted") else ""
    if waiting:
        many = f"{len(waiting)} of {len(gates)} gate{'s' * (len(gates) != 1)}"
        return f"Not complete{reason}: {many} did not run to the end ({', '.join(waiting)})"
    asked = words(verdict.get("declared_and_not_asked"))
    return f"Not complete{reason}" + (f": declared and not asked: {', '.join(asked)}" if asked else "")


# Failures


def failures(verdict: Mapping[str, Any], rules: Rules) -> Iterator[Markup]:
    """One block a check that failed, then controls that were accepted, tests that broke, files that were changed."""
    for gate, check in failing(verdict):
        yield failure(f"{gate} / {check.get('check')}", check, rules)
    for control in entries(verdict.get("controls")):
        if control.get("verdict") == "FAILED":
            yield _accepted(control)
    failed = {gate for gate, _ in failing(verdict)}
    failed |= {str(c.get("gate")) for c in entries(verdict.get("controls")) if c.get("verdict") == "FAILED"}
    for asked in entries(verdict.get("gates")):
        if (tests := words(asked.get("broken_tests"))) and str(asked.get("gate")) not in failed:
            yield _broken(str(asked.get("gate")), tests, words(asked.get("broken_because")))
    for rule, reason in pairs(verdict.get("expected_and_held")):
        yield _block(
            rule, element("p", f"It holds, though it is declared not to ({reason}): remove the declaration.")
        )
    for problem in words(verdict.get("file_problems")):
        yield _block("files of the verdict", element("p", problem))


def _broken(gate: str, tests: Sequence[str], because: Sequence[str]) -> Markup:
    """A gate of which no check failed, but tests did: what they said, and which."""
    lines = element("ul", *(element("li", element("code", test)) for test in tests), class_="plain")
    many = f"{len(tests)} test{'s' * (len(tests) > 1)} of this gate did not pass"
    return _block(
        gate, *(element("p", reason) for reason in because), folded(many, lines, is_open=not because)
    )


def failure(title: str, found: Mapping[str, Any], rules: Rules) -> Markup:
    """A check that failed: what must be, what was found beside it, by how much, and where to look."""
    rule = str(found.get("rule") or "")
    law = rules.get(rule, {})
    problem, like = without_likeness(str(text(found.get("problem") or found.get("message")) or ""))
    name = [title, " ", element("span", rule, class_="muted")] if rule else title
    return _block(
        name,
        element("p", text(found.get("statement") or law.get("statement")), class_="statement"),
        element("p", problem),
        got_and_expected(found.get("got"), found.get("expected")),
        advice(
            [
                ("by how much", margin_in_words(found)),
                ("behaves like", like),
                ("look for", law.get("hint")),
                ("symptom", law.get("why")),
            ]
        ),
        explained(rule, law),
    )


def without_likeness(problem: str) -> tuple[str, str]:
    """The problem, and what it behaves like, which stands in brackets behind it."""
    match = LIKENESS.search(problem)
    return (problem, "") if match is None else (problem[: match.start()] + problem[match.end() :], match[1])


def got_and_expected(got: Any, expected: Any) -> Markup | None:
    """What was found beside what had to be."""
    if not got and not expected:
        return None
    return element(
        "div",
        element("div", element("h4", "got"), element("p", text(got)), class_="got"),
        element("div", element("h4", "expected"), element("p", text(expected)), class_="expected"),
        class_="pair",
    )


def advice(told: Sequence[tuple[str, Child]]) -> Markup | None:
    """Names and sentences, one below the other."""
    rows = [(element("dt", name), element("dd", what)) for name, what in told if what]
    return element("dl", *rows, class_="advice") if rows else None


def explained(rule: str, law: Mapping[str, str]) -> Markup | None:
    """The rule's wrong and right lines, and where it comes from."""
    if not law:
        return None
    parts: list[Child] = []
    if law.get("wrong"):
        parts += [
            element("h4", "wrong"),
            code(law["wrong"].strip("\n")),
            element("h4", "right"),
            code(law["right"].strip("\n")),
        ]
    parts += [element("h4", "source"), element("p", law.get("source"), class_="small")]
    parts.append(element("p", "More: ", element("code", f"honestloop explain {rule}"), class_="small"))
    return folded(f"{rule}: wrong and right code", *parts)


def _accepted(control: Mapping[str, Any]) -> Markup:
    where = f"{control.get('gate')} / {control.get('must_be_refused_by')}"
    return _block(
        f"control {control.get('control')}",
        element(
            "p",
            f"A loop that is wrong ({control.get('wrong')}) was not refused for it by {where}.",
            class_="statement",
        ),
        element("p", text(control.get("message") or control.get("figure"))),
    )


def _block(title: Child, *children: Child) -> Markup:
    return element("article", element("h3", mark("FAILED"), " ", title), *children, class_="panel failure")


# What is left open


def left_open(verdict: Mapping[str, Any]) -> Iterator[Child]:
    """What did not run, was not offered, left out or expected to fail: what a pass does not speak of."""
    if verdict.get("interrupted"):
        yield mark("NOT RUN"), f" to the end: interrupted by {verdict['interrupted']}."
    whole: list[str] = []
    for gate in entries(verdict.get("gates")):
        checks = entries(gate.get("checks"))
        waiting = [str(c.get("check")) for c in checks if c.get("verdict") == "NOT RUN"]
        if waiting and len(waiting) == len(checks):
            whole.append(str(gate.get("gate")))
        elif waiting:
            yield mark("NOT RUN"), f" {gate.get('gate')}: {', '.join(waiting)}."
    if whole:
        yield mark("NOT RUN"), f" {len(whole)} whole gate{'s' * (len(whole) > 1)}: {', '.join(whole)}."
    for verb in words(verdict.get("declared_and_not_asked")):
        yield (
            mark("NOT RUN"),
            " the subject declares a command ",
            element("code", verb),
            ", and no gate asked it.",
        )
    untried = [
        str(c.get("control")) for c in entries(verdict.get("controls")) if c.get("verdict") == "NOT RUN"
    ]
    if untried:
        yield mark("NOT RUN"), f" {len(untried)} control{'s' * (len(untried) > 1)}: {', '.join(untried)}."
    for rule, reason in pairs(verdict.get("expected_failures")):
        yield mark("EXPECTED FAILURE"), f" {rule}, as declared: {reason}."
    for offer, unproved in pairs(verdict.get("not_offered")):
        yield mark("NOT OFFERED"), f" {offer}. Unproved: {unproved}."
    if isinstance(left := verdict.get("controls_left_out"), int) and left > 0:
        yield (
            f"{left} more controls were not tried in this session; ",
            element("code", "--all-controls"),
            " tries every one.",
        )


# Gates and controls


def gates(verdict: Mapping[str, Any]) -> Iterator[Markup]:
    """A row a gate, with the check that came nearest to its limit; its checks folded."""
    of_gate: dict[str, list[Mapping[str, Any]]] = {}
    for control in entries(verdict.get("controls")):
        of_gate.setdefault(str(control.get("gate")), []).append(control)
    rows = [_gate(gate, of_gate.get(str(gate.get("gate")), [])) for gate in entries(verdict.get("gates"))]
    yield element(
        "p",
        "A bar shows the check that came nearest to its limit, and how much of what is allowed it took.",
        class_="muted small",
    )
    yield element("div", *rows, class_="rows")


def _gate(gate: Mapping[str, Any], controls: Sequence[Mapping[str, Any]]) -> Markup:
    checks = entries(gate.get("checks"))
    asked = [c for c in checks if c.get("verdict") != "NOT OFFERED"]
    passed = sum(c.get("verdict") == "PASSED" for c in asked)
    said = f"{passed} of {len(asked)} checks"
    if controls:
        refused = sum(c.get("verdict") == "PASSED" for c in controls)
        said += f", {refused} of {len(controls)} controls refused"
    title = str(gate.get("title") or gate.get("gate"))
    head = [
        element("span", mark(str(gate.get("verdict")))),
        element("span", element("strong", title), " ", element("span", said, class_="muted small")),
        element("span", _tightest(checks), class_="margin small"),
    ]
    heads = ["check", "", "what it establishes", "found", "margin"]
    rows = [
        [
            element("strong", text(check.get("check"))),
            mark(str(check.get("verdict"))),
            [text(check.get("statement")), " ", element("span", text(check.get("rule")), class_="muted")],
            [text(check.get("figure")), _limit(check)],
            margin_in_words(check),
        ]
        for check in checks
    ]
    tests = words(gate.get("broken_tests"))
    broken = element("p", "Tests that did not pass: ", ", ".join(tests), class_="small") if tests else None
    return element("details", element("summary", *head), table(heads, rows), broken)


def _limit(check: Mapping[str, Any]) -> str | None:
    """The threshold, where it is one; "0 wrong" is told by the figure."""
    threshold = str(check.get("threshold") or "")
    return f"; allowed {threshold.replace('<=', 'at most')}" if threshold.startswith("<") else None


def _tightest(checks: Sequence[Mapping[str, Any]]) -> Child:
    """The bar of the check that used most of what it is allowed; words where nothing is a matter of degree."""
    shares = [(c["share"], c) for c in checks if is_drawn(c.get("share")) and c["share"] > 0]
    if not shares:
        done = [c for c in checks if c.get("verdict") == "PASSED"]
        return element("span", "exact: nothing differs", class_="muted") if done else None
    share, check = max(shares, key=lambda found: found[0])
    width = f"width:{min(share, 1.0) * 100:.1f}%;"
    return [
        element(
            "span",
            element("span", style=width),
            class_="gauge over" if share > 1 else "gauge",
            aria_hidden="true",
        ),
        f"{check.get('check')}: {margin_in_words(check)}",
    ]


def margin_in_words(check: Mapping[str, Any]) -> str:
    """How far from its limit a check stayed, in words."""
    margin, share = str(check.get("margin") or ""), check.get("share")
    if check.get("verdict") in ("FAILED", "EXPECTED FAILURE") and not is_drawn(share):
        return "" if margin == "exact" else margin
    if margin == "exact" or share == 0:
        return "exact: nothing differs"
    if not is_drawn(share) or share < 0:
        return margin
    if share > 1:
        return f"{plain(share, 3) if share < 1e6 else 'more than a million'} times what is allowed"
    return (
        f"inside {plain(1 / share, 3)} times"
        if share < 0.5
        else f"{plain(100 * share, 3)} % of what is allowed"
    )


def controls(verdict: Mapping[str, Any]) -> list[Markup]:
    """What was wrong with each control, and what refused it."""
    told = entries(verdict.get("controls"))
    if not told:
        return []
    refused = sum(c.get("verdict") == "PASSED" for c in told)
    rows = [
        [
            element("strong", text(c.get("control"))),
            mark(OUTCOMES.get(str(c.get("verdict")), str(c.get("verdict")))),
            text(c.get("wrong")),
            f"{c.get('gate')} / {c.get('must_be_refused_by')}",
            text(c.get("problem") or c.get("figure")) if c.get("verdict") != "NOT RUN" else None,
        ]
        for c in told
    ]
    heads = ["control", "", "what is wrong with it", "must be refused by", "said"]
    shown = folded(f"{refused} of {len(told)} were refused for their own fault", table(heads, rows))
    said = "Loops that are wrong in one known way: a gate that cannot refuse them for their fault proves nothing."
    return [element("p", said, class_="muted small"), element("div", shown, class_="panel")]


def again(verdict: Mapping[str, Any]) -> Iterator[Child]:
    """The command, the seeds, and where the runs are."""
    if isinstance(verdict.get("repeat"), str):
        yield code(str(verdict["repeat"]))
    yield facts((name, exact(verdict.get(key))) for name, key in SEEDS)
    notes = [note for note in words(verdict.get("notes")) if not note.startswith("to repeat this:")]
    if notes:
        lines = element("ul", *(element("li", note) for note in notes), class_="plain")
        yield element(
            "div", folded(f"{len(notes)} note{'s' * (len(notes) > 1)}", lines), class_="panel notes"
        )


SEEDS = (("seed of the blind split", "blind_seed"), ("seed of the kills", "kill_seed"), ("runs", "runs"))
