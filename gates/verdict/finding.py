"""A finding: what one check measured, the line it had to stay on, and how far it stayed from it.

Every check of every gate returns a `Finding`, whether it looks at the subject or at a negative control. What happens
to the finding is decided elsewhere: a gate needs it to pass, a control needs it to be refused.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gates.verdict.definition import rule_of
from honestloop.guarded_files import printable
from reference.rules import RULES


@dataclass(frozen=True)
class Finding:
    """Outcome of one check. `where` is "gate/check"; figure, threshold and margin are for people to read."""

    where: str
    passed: bool
    figure: str
    threshold: str
    margin: str
    problem: str = ""
    got: str = ""
    expected: str = ""
    unproved: str = ""
    """What stays unproved where the subject left nothing to look at; empty where something was judged."""
    share: float | None = None
    """What was found as a share of what is allowed: 1 at the limit; None where it is not a matter of degree."""

    @property
    def gate(self) -> str:
        return self.where.partition("/")[0]

    @property
    def check(self) -> str:
        return self.where.partition("/")[2]

    @property
    def message(self) -> str:
        """The one grammar of every failure: `GATE resume / rerun: what is wrong; got, expected; the rule`."""
        said = f"GATE {self.gate} / {self.check}: {self.problem}; got {self.got}, expected {self.expected}"
        rule = RULES.get(rule_of(self.where) or "")
        return said if rule is None else f"{said}; {rule.id}: {rule.statement} ({rule.address})"


def nothing_to_judge(where: str, *, missing: str, unproved: str) -> Finding:
    """A check that has nothing to look at, because the subject has no such thing: neither a pass nor a failure."""
    return Finding(where, passed=True, figure=missing, threshold="", margin="", unproved=unproved)


def at_most(where: str, *, figure: float, limit: float, problem: str, detail: str = "") -> Finding:
    """A number that must not exceed a limit. NaN does not pass."""
    shown = f"{figure:.4g}" + (f" ({detail})" if detail else "")
    return Finding(
        where,
        passed=figure <= limit,
        figure=shown,
        threshold=f"<= {limit:.4g}",
        margin=f"{limit - figure:+.4g}",
        problem=problem,
        got=shown,
        expected=f"at most {limit:.4g}",
        share=figure / limit if limit > 0 else None,
    )


def within(where: str, *, error: float, bound: float, of: str, problem: str, detail: str = "") -> Finding:
    """An error that must stay inside a derived bound; the margin says how many times it would fit.

    `of` names what was compared ("48 perplexities"), `detail` the worst of them.
    """
    fits = (
        "exact"
        if error == 0
        else f"{bound / error:.3g}x inside"
        if error <= bound
        else f"{error / bound if bound > 0 else math.inf:.3g}x"
    )
    return Finding(
        where,
        passed=error <= bound,
        figure=f"error {error:.2g} over {of}",
        threshold=f"<= {bound:.2g}",
        margin=fits,
        problem=problem,
        got=f"error {error:.3g}" + (f" ({detail})" if detail else ""),
        expected=f"at most {bound:.3g}, the derived rounding bound",
        share=error / bound if bound > 0 else None,
    )


@dataclass(frozen=True)
class Problem:
    """One thing that is not as it must be."""

    what: str
    got: Any
    expected: Any


def no_problems(where: str, problems: Sequence[Problem], *, of: str, what: str = "wrong") -> Finding:
    """A check that must find nothing; `of` says how much was looked at, so that an empty look is visible."""
    first = problems[0] if problems else Problem("", "", "")
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return Finding(
        where,
        passed=not problems,
        figure=f"{of}: {len(problems)} {what}",
        threshold="0",
        margin="exact",
        problem=printable(first.what) + more,
        got=_short(first.got),
        expected=_short(first.expected),
    )


def all_equal(where: str, facts: Mapping[str, tuple[Any, Any]], *, of: str) -> Finding:
    """Facts that must be as expected: name -> (got, expected)."""
    problems = [Problem(name, got, expected) for name, (got, expected) in facts.items() if got != expected]
    return no_problems(where, problems, of=of)


def _short(value: Any) -> str:
    text = printable(value if isinstance(value, str) else repr(value))
    return text if len(text) <= 300 else text[:297] + "..."
