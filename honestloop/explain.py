"""`honestloop explain`: a rule as text."""

import textwrap

from reference.rules import Rule

WIDTH = 88


def explained(rule: Rule) -> str:
    """What the rule says, why it matters, an example that breaks it, the mended example, its source."""
    parts = [
        f"{rule.id}  {rule.statement}",
        f"Why it matters: {rule.why}",
        f"Look for: {rule.hint}",
    ]
    lines = [line for part in parts for line in (*textwrap.wrap(part, WIDTH, subsequent_indent="  "), "")]
    lines += ["Breaks it:", textwrap.indent(rule.wrong.strip("\n"), "    "), ""]
    lines += ["Keeps it:", textwrap.indent(rule.right.strip("\n"), "    "), ""]
    if rule.needs:
        lines += [f"Needs: {', '.join(rule.needs)} (if one of them is broken, this one is blocked)", ""]
    return "\n".join([*lines, *textwrap.wrap(f"Source: {rule.source}", WIDTH, subsequent_indent="  ")])
