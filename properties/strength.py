"""How strong the properties are: every mutant against every property of its function.

    python -m properties.strength --json runs/strength.json --margins    all, for docs/generate.py; some minutes
    python -m properties.strength --kills                                all, the rules that name them alone
    python -m properties.strength --quick --seed 7                       the same of a dozen mutants, in seconds
    python -m properties.strength loss_in_bits                           one mutant, with the messages it gets

A mutant is killed when each of the rules that name its mistake refuses it. Exit status 1 if one survives.
"""

import argparse
import json
import math
import random
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis.errors import HypothesisException

from fixtures.mutants import MUTANTS, Mutant, subject_with
from honestloop.conventions import Conventions
from honestloop.protocol import FUNCTIONS, ProtocolError, Subject
from properties.assertions import NotOfferedError, Refusal
from properties.checks import Property, all_properties
from properties.diagnosis import diagnose
from properties.grading import Grading, Status
from properties.record import Record, recording

EXAMPLES = 60
"""As many as CI draws."""
FEWER = 15
"""For the rules that a mutant does not list: they complete the matrix."""
EVERYWHERE = frozenset({"SUBJ-01", "SUBJ-02", "SUBJ-05", "SUBJ-07", "SUBJ-08"})
"""Rules that a call of any property may break."""
QUICK = 12
"""Mutants of a quick check."""
WORKERS = 2
CORRECT = (
    "impl",
    "fixtures.subjects.reference",
    "fixtures.subjects.pytorch",
    "fixtures.subjects.optax_jax",
)
"""Subjects that must never be refused."""


def search(examples: int, *, shrink: bool) -> settings:
    """Examples as CI draws them; a counter-example is shrunk where it is diagnosed."""
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate, *([Phase.shrink] if shrink else [])],
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )


@dataclass
class Kill:
    """A rule refused a mutant."""

    test: str
    seconds: float
    """From the start of the property to its first failing example."""
    ratio: float
    """Error / bound of the example; infinite where bytes or facts are compared."""
    message: str
    named: list[str] = field(default_factory=list)
    """Mutants that the diagnosis named."""


@dataclass
class Fate:
    """What became of a mutant."""

    mutant: str
    kills: dict[str, Kill] = field(default_factory=dict)
    """Rule -> its first kill."""
    passed: list[str] = field(default_factory=list)
    """Properties that noticed nothing."""

    @property
    def missing(self) -> list[str]:
        """Rules that should have refused it and did not."""
        return [rule for rule in MUTANTS[self.mutant].rules if rule not in self.kills]

    @property
    def killed(self) -> bool:
        return not self.missing

    @property
    def named(self) -> list[str]:
        """What the diagnosis says under the first rule that names the mistake."""
        kill = self.kills.get(MUTANTS[self.mutant].rules[0])
        return kill.named if kill else []


def cases(prop: Property, function: str | None = None) -> Iterable[dict[str, Any]]:
    """The parametrisations of a property that grade the function."""
    for case in prop.cases():
        name = case.get("name")
        if function is None or function in (prop.functions if name not in FUNCTIONS else {name}):
            yield case


def judge(mutant: Mutant, rules: Iterable[str] | None = None, *, diagnosed: bool = True) -> Fate:
    """Run the properties of these rules, or all that grade the mutant's function."""
    fate = Fate(mutant.id)
    if rules is not None and set(rules) & EVERYWHERE:
        rules = None
    conventions = Conventions()
    for test, prop in all_properties().items():
        if rules is not None and not set(rules) & set(prop.rules):
            continue
        for case in cases(prop, mutant.function):
            subject = Subject.of(mutant.id, subject_with(mutant, conventions), conventions)
            own = bool(set(mutant.rules) & set(prop.rules))
            record = Record(EXAMPLES if own else FEWER)
            kill = attempt(prop, subject, case, test, record, shrink=diagnosed and own)
            if kill is None:
                fate.passed.append(test)
                continue
            rule, found = kill
            if diagnosed and rule in mutant.rules and rule not in fate.kills:
                named = diagnose(subject.guard.calls, record.history, conventions)
                found.named = [other.id for other in named]
            fate.kills.setdefault(rule, found)
    return fate


def attempt(
    prop: Property,
    subject: Subject,
    case: dict[str, Any],
    test: str,
    record: Record,
    *,
    shrink: bool = False,
) -> tuple[str, Kill] | None:
    """(rule, kill) if the property refuses the subject."""
    watch = Watch(prop)
    try:
        with recording(record):
            prop.runnable(search(record.max_examples, shrink=shrink), watch)(subject=subject, **case)
    except NotOfferedError:  # what the subject's conventions rule out
        return None
    except Refusal as refusal:
        ratio = refusal.ratio
        return refusal.rule, Kill(test, watch.first_failure, ratio, str(refusal))
    except HypothesisException as error:
        raise RuntimeError(f"{test} with {subject.name}: {error}") from error
    return None


class Watch:
    """Notes when an example of a property first fails."""

    def __init__(self, prop: Property) -> None:
        self._prop, self._start = prop, time.perf_counter()
        self.first_failure = 0.0

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        try:
            self._prop.example(*args, **kwargs)
        except Refusal:
            self.first_failure = self.first_failure or time.perf_counter() - self._start
            raise


def judge_by_name(name: str, quick: bool) -> Fate:
    """For a worker process."""
    mutant = MUTANTS[name]
    return judge(mutant, mutant.rules if quick else None, diagnosed=not quick)


def sample(seed: int) -> list[str]:
    """A dozen mutants, of as many functions as there are."""
    chance = random.Random(f"strength/{seed}")
    names = sorted(MUTANTS)
    chance.shuffle(names)
    seen: set[str] = set()
    first = [n for n in names if MUTANTS[n].function not in seen and not seen.add(MUTANTS[n].function)]  # type: ignore[func-returns-value]
    return first[:QUICK]


def run(names: Sequence[str], *, quick: bool) -> list[Fate]:
    """The fate of each, in that order."""
    if len(names) == 1:
        return [judge_by_name(names[0], quick)]
    with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool:
        return list(pool.map(judge_by_name, names, [quick] * len(names)))


def summary(fates: Sequence[Fate]) -> dict[str, Any]:
    """Counts, and who survived."""
    return {
        "mutants": len(fates),
        "killed": sum(fate.killed for fate in fates),
        "survivors": {fate.mutant: fate.missing for fate in fates if not fate.killed},
        "diagnosed": sum(fate.mutant in fate.named for fate in fates),
        "misnamed": {fate.mutant: fate.named for fate in fates if fate.mutant not in fate.named},
    }


def margins_of(name: str) -> dict[str, float] | None:
    """Rule -> largest error / bound of a correct subject in one run of all properties; None if it cannot run here."""
    grading = Grading(Subject(name))
    try:
        _ = grading.subject.offered, grading.subject.conventions
    except ProtocolError:
        return None
    for prop in all_properties().values():
        for case in cases(prop):
            if grading.before(prop, case) is None:
                with grading.attempt(prop, Record(EXAMPLES)) as tried:
                    prop.runnable(search(EXAMPLES, shrink=False))(subject=grading.subject, **case)
                if tried.outcome.status == Status.BROKEN:
                    raise RuntimeError(f"{name} is refused: {tried.outcome.text}")
    found: dict[str, float] = {}
    for (rule, _), ratio in grading.margins.items():
        found[rule] = max(found.get(rule, 0.0), ratio)
    return found


def without_infinity(x: Any) -> Any:
    """JSON has no infinity: None in its place."""
    if isinstance(x, dict):
        return {key: without_infinity(value) for key, value in x.items()}
    if isinstance(x, list):
        return [without_infinity(value) for value in x]
    return None if isinstance(x, float) and not math.isfinite(x) else x


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m properties.strength", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "mutants", nargs="*", metavar="MUTANT", help="these alone, with the messages they get"
    )
    parser.add_argument(
        "--quick", action="store_true", help=f"{QUICK} mutants, the rules that name them alone"
    )
    parser.add_argument("--kills", action="store_true", help="the rules that name them alone, no diagnosis")
    parser.add_argument("--seed", type=int, default=0, help="which dozen (default 0)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the counts as JSON")
    parser.add_argument(
        "--margins", action="store_true", help="with --json: the margins of correct subjects as well"
    )
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.mutants if name not in MUTANTS]:
        parser.error(f"no mutant {unknown[0]}")
    start = time.perf_counter()
    names = options.mutants or (sample(options.seed) if options.quick else list(MUTANTS))
    quick = options.quick or options.kills
    fates = run(names, quick=quick)
    counts = summary(fates) | {"seconds": round(time.perf_counter() - start, 1)}
    if options.mutants:
        print(*(kill.message for fate in fates for kill in fate.kills.values()), sep="\n\n", end="\n\n")
    if options.json:
        found = counts | {"fates": [asdict(f) | {"named": f.named} for f in fates]}
        if options.margins:
            found["margins"] = {n: m for n in CORRECT if (m := margins_of(n)) is not None}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(without_infinity(found), indent=1), encoding="utf-8")
    print(f"{counts['killed']} of {counts['mutants']} mutants killed in {counts['seconds']} s", end="")
    print("" if quick else f", {counts['diagnosed']} named by the diagnosis")
    for name, rules in counts["survivors"].items():
        print(f"  survives {', '.join(rules)}: {name} ({MUTANTS[name].mistake})")
    return 1 if counts["survivors"] else 0


if __name__ == "__main__":
    sys.exit(main())
