"""docs/wild.md: loops that others wrote, as `python -m properties.wild` graded them, and what was found in them."""

from collections.abc import Iterator
from typing import Any

from fixtures.wild.findings import findings
from fixtures.wild.table import LOOPS


def wild_page(measured: dict[str, Any]) -> str:
    """docs/wild.md, of what `python -m properties.wild` measured of each loop."""
    return "\n".join(
        [*wild_introduction(measured), *(line for name in measured for line in wild_loop(measured[name]))]
    )


def wild_introduction(measured: dict[str, Any]) -> Iterator[str]:
    """What was graded, how, and a row for each loop."""
    yield from ("# In the wild", "")
    yield "Loops that others wrote, graded as they are: each by an adapter in `fixtures/wild/`, those of Trainer, Lightning and Keras of"
    yield "at most 50 lines on templates that come with the wheel (`honestloop init my_adapter --from trainer`). What a loop does"
    yield "otherwise than a rule asks is one of three: a convention, which the adapter declares; a *decision* of its maintainers,"
    yield "documented or defended by them; or a *finding*, which is shown below with that library alone. A run is green if exactly"
    yield "the rules that are named here fail."
    yield ""
    yield "```"
    yield "make wild"
    yield "```"
    yield ""
    yield "does it all in an environment of its own, `.venv-wild` (`requirements-wild.txt`): it grades each loop with a few examples that"
    yield "are always the same, runs every reproduction, and ends in status 1 if one no longer shows what is said of it. One loop:"
    yield "`python -m properties.wild trainer`."
    yield ""
    yield "*Not judged*: a rule that rests on one that fails, so that nothing can be said of it."
    yield ""
    yield from (
        "| loop | versions | rules that hold | rules that fail | not judged |",
        "|---|---|---|---|---|",
    )
    for name, result in measured.items():
        versions = ", ".join(f"{package} {version}" for package, version in result["versions"].items())
        held, failed, blocked = (
            ", ".join(rule for rule, status in result["rules"].items() if status == word) or "none"
            for word in ("holds", "expected failure", "blocked")
        )
        yield f"| {LOOPS[name].title} | {versions or result['repository']} | {held} | {failed} | {blocked} |"
    yield ""


def wild_loop(result: dict[str, Any]) -> Iterator[str]:
    """What was found in one loop, each with its reproduction and what that printed."""
    yield from (f"## {LOOPS[result['loop']].title}", "")
    for finding in findings().values():
        if finding.loop != result["loop"]:
            continue
        kind = "Decision" if finding.decision else "Finding"
        yield f"**{kind}{', ' if finding.rules else ''}{', '.join(finding.rules)}.** {finding.says}"
        yield f"Reported: {', '.join(finding.threads)}." if finding.threads else "No report of it was found."
        yield ""
        if finding.script:
            yield from ("<details><summary>reproduction</summary>", "", "```python")
            yield finding.script.read_text(encoding="utf-8").rstrip()
            yield from ("```", "", "prints", "", "```")
            yield result["reproductions"][finding.id]["output"]
            yield from ("```", "", "</details>", "")
