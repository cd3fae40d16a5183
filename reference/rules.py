"""The table of rules: what a correct training loop satisfies, read from rules.toml."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

TABLE = Path(__file__).with_name("rules.toml")


@dataclass(frozen=True)
class Rule:
    """One statement a correct loop satisfies. An id never changes its meaning."""

    id: str
    statement: str
    why: str
    """The symptom a user sees when it is broken."""
    source: str
    """The paper, equation, document or public thread it comes from."""
    hint: str
    """Where to look first."""
    wrong: str
    """A few lines that break it, as one meets them in real loops."""
    right: str
    """The same lines, mended."""
    language: str = "python"
    """Of the two examples: "python" or "json"."""
    function: str = ""
    """What the examples define, if a test runs them (tests/test_reference_examples.py): a function of the protocol, a
    part of one as the oracles have it, or, as "loop.<place>", a place in a PyTorch loop; as "own.<method>", a method of
    a loop with a model of its own; as "scaler.<method>", a method of a scaler; or, as "script.<function>"
    (tests/test_gates_interruption.py), a function of a script that is interrupted."""
    needs: tuple[str, ...] = ()
    """Rules whose breakage explains that of this one."""

    @property
    def family(self) -> str:
        """The letters of the id, which rules about one thing share."""
        return self.id.split("-")[0]

    @property
    def texts(self) -> dict[str, str]:
        """What a page says of it: statement, why, hint, source, wrong, right."""
        return {
            name: getattr(self, name) for name in ("statement", "why", "hint", "source", "wrong", "right")
        }

    @property
    def address(self) -> str:
        """The page that explains it, in a checkout."""
        return f"docs/rules/{self.id.lower()}.md"


def load(path: Path = TABLE) -> dict[str, Rule]:
    """Id -> rule, in the order of the table. ValueError for an id given twice, TypeError for a wrong field."""
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    return {
        rule_id: Rule(rule_id, needs=tuple(fields.pop("needs", ())), **fields)
        for rule_id, fields in table.items()
    }


RULES = load()
