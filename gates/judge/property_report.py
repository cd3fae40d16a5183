"""What the properties found, as one check of the verdict."""

from gates.subject.property_runs import Checked
from gates.verdict.finding import Finding, Problem, no_problems
from honestloop import exit_status

HOLDS, EXPECTED = "holds", "expected failure"


def hold(checked: Checked) -> Finding:
    """Every rule that could be asked of the adapter holds, or fails as it declares; and some rule could be asked."""
    report, status = checked.report, checked.finished.status
    rules = report["rules"]
    held = sum(word == HOLDS for word in rules.values())
    problems = [
        Problem(f"{rule}: {_first_lines(text)}", "broken", "a rule that holds")
        for rule, text in report["broken"].items()
    ]
    problems += [
        Problem(line, "a rule that holds", "the failure that is declared") for line in report["unfulfilled"]
    ]
    if not problems and status == exit_status.NOTHING_GRADED:
        problems.append(Problem("nothing was graded", "an adapter that offers nothing", "functions to grade"))
    if not problems and (status != exit_status.OK or not held):
        problems.append(Problem("the properties did not end well", f"status {status}", "0"))
    of = f"{held} rules hold, {sum(report['examples'].values()):,} examples"
    if report["expected"]:
        of += f", {len(report['expected'])} fail as declared"
    return no_problems("properties/adapter", problems, of=of, what="broken")


def _first_lines(text: str) -> str:
    """The rule's statement and what was found, without the advice that follows."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    named = [line for line in lines if line.startswith("behaves like")]
    return "; ".join([*lines[:2], *named])
