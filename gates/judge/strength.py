"""The check of the strength gate: does the suite that judges everybody notice the mistakes it says it notices?"""

from gates.subject.mutants import Judged
from gates.verdict.finding import Finding, Problem, no_problems


def kills(judged: Judged, at_least: int) -> Finding:
    """Each mutant that was tried was refused by the rules that name its mistake, and enough of them were tried."""
    counts, status = judged.counts, judged.finished.status
    problems = [
        Problem(f"{mutant} survives", f"no refusal by {', '.join(rules)}", "a refusal by each of them")
        for mutant, rules in counts["survivors"].items()
    ]
    if counts["mutants"] < at_least or counts["killed"] + len(counts["survivors"]) != counts["mutants"]:
        tried = f"{counts['mutants']} tried, {counts['killed']} killed"
        problems.append(
            Problem("too few mutants were judged", tried, f"at least {at_least}, all of them judged")
        )
    if (status == 0) is not (not counts["survivors"]):
        problems.append(Problem("status and counts disagree", status, "0 if none survives, else 1"))
    return no_problems("strength/mutants", problems, of=f"{counts['killed']} of {counts['mutants']} killed")
