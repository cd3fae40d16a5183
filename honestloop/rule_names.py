"""The ids and families of rules as a user types them."""

import difflib
from collections.abc import Iterable

from reference.rules import RULES


def selected(rules: Iterable[str] | None) -> frozenset[str]:
    """The ids that these ids and families name; all for None. ValueError for one that does not exist."""
    if rules is None:
        return frozenset(RULES)
    found: set[str] = set()
    for name in [rules] if isinstance(rules, str) else rules:
        named = {rule for rule in RULES if name.upper() in (rule, RULES[rule].family)}
        if not named:
            raise ValueError(unknown_rule(name))
        found |= named
    return frozenset(found)


def unknown_rule(name: str) -> str:
    """One line that says so, with the nearest ids."""
    families = dict.fromkeys(rule.family for rule in RULES.values())
    near = difflib.get_close_matches(name.upper(), [*RULES, *families], n=3, cutoff=0.5)
    return f"unknown rule {name!r}" + (
        f"; did you mean {', '.join(near)}?" if near else "; see: honestloop rules"
    )
