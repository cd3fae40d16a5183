"""Mutation testing of the properties: every mutant is graded by every property of its function.

    python -m properties.strength --json runs/strength.json --margins    all mutants and rules, for docs/strength.md
    python -m properties.strength --kills                                all mutants, only the rules that they list
    python -m properties.strength --quick --seed 7                       the same for a sample of a dozen mutants
    python -m properties.strength --first                                of all mutants the failure seen first
    python -m properties.strength --trainer-alone                        of mutants of functions, what the loop shows
    python -m properties.strength loss_in_bits                           one mutant, with the messages it gets

A mutant is killed when each of the rules that it lists refuses it. Exit status 1 if one survives. The mutants were
written beside the rules, so that the kill rate shows regressions, not the share of unknown mistakes that is found.
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
from hypothesis import seed as seeded
from hypothesis.errors import FlakyFailure, HypothesisException

from fixtures import subjects
from fixtures.mutants import MUTANTS, Mutant, subject_with
from fixtures.mutants.lifted import READINGS, of_trainer
from honestloop.protocol import FUNCTIONS, ProtocolError, Subject
from honestloop.suite_location import in_suite
from properties.assertions import NotOfferedError, Refusal
from properties.checks import Property, all_properties
from properties.diagnosis import diagnose
from properties.grading import Grading, Status, place
from properties.property_record import Record, recording

EXAMPLES = 60
"""Examples of a property that checks a rule the mutant lists: as many as in CI."""
EXAMPLES_OF_DEV = 20
"""Examples of a property at the default profile, for the mutants that only the loop shows."""
EXAMPLES_OF_OTHER_RULES = 15
"""Examples of the other properties, which complete the matrix of mutants and rules."""
RULES_OF_EVERY_CALL = frozenset({"SUBJ-01", "SUBJ-02", "SUBJ-05", "SUBJ-07", "SUBJ-08"})
"""Rules that a call in any property may break."""
SAMPLE_SIZE = 12
"""Mutants of a quick check."""
WORKERS = 2
CORRECT_SUBJECTS = (
    in_suite("impl"),
    *(f"{subjects.__name__}.{name}" for name in ("reference", "pytorch", "optax_jax")),
)
"""Subjects that no property may refuse."""


def profile(examples: int, *, shrink: bool) -> settings:
    """Hypothesis settings as in CI; shrinking finds the smallest failing example, which the diagnosis needs."""
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
    """The first refusal of a mutant by one rule."""

    test: str
    seconds: float
    """From the start of the property to its first failing example."""
    ratio: float
    """Error / bound of the example; infinite where bytes or facts are compared."""
    message: str
    named: list[str] = field(default_factory=list)
    """Ids of the mutants that the diagnosis names for this example."""


@dataclass
class KillResult:
    """Which rules refused a mutant."""

    mutant: str
    kills: dict[str, Kill] = field(default_factory=dict)
    """Rule -> its first kill."""
    passed: list[str] = field(default_factory=list)
    """Properties that did not refuse it."""

    @property
    def missing(self) -> list[str]:
        """Rules that the mutant lists and that did not refuse it."""
        return [rule for rule in MUTANTS[self.mutant].rules if rule not in self.kills]

    @property
    def killed(self) -> bool:
        return not self.missing

    @property
    def named(self) -> list[str]:
        """Ids that the diagnosis names for the failure of the first rule that the mutant lists."""
        kill = self.kills.get(MUTANTS[self.mutant].rules[0])
        return kill.named if kill else []


def cases(prop: Property, function: str | None = None) -> Iterable[dict[str, Any]]:
    """The parametrisations of a property that grade the function; all of them for None."""
    for case in prop.cases():
        name = case.get("name")
        if function is None or function in (prop.functions if name not in FUNCTIONS else {name}):
            yield case


def judge(mutant: Mutant, rules: Iterable[str] | None = None, *, diagnosed: bool = True) -> KillResult:
    """Grade a mutant by the properties of these rules, or by all that grade its function, and diagnose each kill.

    It is judged under the conventions that it declares.
    """
    judged = KillResult(mutant.id)
    if rules is not None and set(rules) & RULES_OF_EVERY_CALL:
        rules = None
    conventions = mutant.conventions
    for test, prop in all_properties().items():
        if rules is not None and not set(rules) & set(prop.rules):
            continue
        for case in cases(prop, mutant.function):
            subject = Subject.of(mutant.id, subject_with(mutant, conventions), conventions)
            own = bool(set(mutant.rules) & set(prop.rules))
            record = Record(EXAMPLES if own else EXAMPLES_OF_OTHER_RULES)
            refused = grade(prop, subject, case, test, record, shrink=diagnosed and own)
            if refused is None:
                judged.passed.append(test)
                continue
            rule, kill = refused
            if diagnosed and rule in mutant.rules and rule not in judged.kills:
                found = diagnose(
                    list(subject.guard.calls),
                    list(record.history),
                    conventions,
                    failures=record.failures,
                    fresh=record.fresh,
                    subject=subject,
                )
                kill.named = list(found.names)
            judged.kills.setdefault(rule, kill)
    return judged


def grade(
    prop: Property,
    subject: Subject,
    case: dict[str, Any],
    test: str,
    record: Record,
    *,
    shrink: bool = False,
    seed: int | None = None,
) -> tuple[str, Kill] | None:
    """(rule, kill) if the property refuses the subject, else None. RuntimeError if Hypothesis cannot run it.

    `seed` draws other examples than those of CI.
    """
    timed = TimedProperty(prop)
    try:
        with recording(record):
            runnable = prop.runnable(profile(record.max_examples, shrink=shrink), timed)
            (runnable if seed is None else seeded(seed)(runnable))(subject=subject, **case)
    except NotOfferedError:  # the property does not apply to the subject's conventions
        return None
    except Refusal as refusal:
        return refusal.rule, Kill(test, timed.first_failure, refusal.ratio, str(refusal))
    except FlakyFailure as error:  # a mutant that draws from fresh entropy may pass when it is tried again
        first = next(e for e in error.exceptions if isinstance(e, Refusal))
        return first.rule, Kill(test, timed.first_failure, first.ratio, str(first))
    except HypothesisException as error:
        raise RuntimeError(f"{test} with {subject.name}: {error}") from error
    return None


class TimedProperty:
    """Runs the examples of a property and records the seconds until one of them first fails."""

    def __init__(self, prop: Property) -> None:
        self._prop, self._start = prop, time.perf_counter()
        self.first_failure = 0.0

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        try:
            self._prop.example(*args, **kwargs)
        except Refusal:
            self.first_failure = self.first_failure or time.perf_counter() - self._start
            raise


class Undiagnosed(Grading):
    """A grading that does not ask which mistake a failure looks like."""

    def _explain(self, refusal: Refusal, record: Record) -> None:
        """Nothing is added."""


def first_of(mutant: Mutant, examples: int) -> str:
    """The rule that a user sees first: properties in the order of the table, blocked as in a grading; "" for none."""
    grading = Undiagnosed(Subject.of(mutant.id, subject_with(mutant), mutant.conventions))
    for prop in sorted(all_properties().values(), key=place):
        for case in cases(prop, mutant.function):
            if grading.before(prop, case) is not None:
                continue
            with grading.attempt(prop, Record(examples)) as tried:
                prop.runnable(profile(examples, shrink=False))(subject=grading.subject, **case)
            if tried.outcome.status == Status.BROKEN:
                return tried.outcome.rules[0]
    return ""


def first_failure(name: str) -> str:
    """The rule by which a mutant is refused first, or "" where it is not."""
    return first_of(MUTANTS[name], EXAMPLES)


def refused_in_the_loop(name: str) -> str:
    """The same of a mutant of a function when nothing but the loop that calls it is offered."""
    return first_of(of_trainer(MUTANTS[name]), EXAMPLES_OF_DEV)


def expressible() -> list[str]:
    """Ids of the mutants of functions that the loop calls."""
    return [mutant.id for mutant in MUTANTS.values() if mutant.function in READINGS]


def trainer_alone(names: Sequence[str]) -> dict[str, Any]:
    """How many of the mutants are refused through a trainer alone, and which are not."""
    with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool:
        found = dict(zip(names, pool.map(refused_in_the_loop, names), strict=True))
    return {
        "refused": sum(map(bool, found.values())),
        "of": len(found),
        "not_refused": [name for name, rule in found.items() if not rule],
        "first": found,
    }


def first_failures(names: Sequence[str]) -> dict[str, Any]:
    """How often the first failure is one that names the mistake; what it is where it is another."""
    with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool:
        first = dict(zip(names, pool.map(first_failure, names), strict=True))
    others = {name: rule for name, rule in first.items() if rule not in MUTANTS[name].rules}
    return {"root_cause_first": len(first) - len(others), "of": len(first), "first_is_another": others}


def judge_by_name(name: str, quick: bool) -> KillResult:
    """`judge` for a worker process, which takes the mutant by its id."""
    mutant = MUTANTS[name]
    return judge(mutant, mutant.rules if quick else None, diagnosed=not quick)


def sample(seed: int) -> list[str]:
    """`SAMPLE_SIZE` mutants of different functions, as a function of the seed."""
    chance = random.Random(f"strength/{seed}")
    names = sorted(MUTANTS)
    chance.shuffle(names)
    first: dict[str, str] = {}
    for name in names:
        first.setdefault(MUTANTS[name].function, name)
    return list(first.values())[:SAMPLE_SIZE]


def run(names: Sequence[str], *, quick: bool) -> list[KillResult]:
    """The result of each mutant, in this order; `quick` leaves out other rules and the diagnosis."""
    if len(names) == 1:
        return [judge_by_name(names[0], quick)]
    with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool:
        return list(pool.map(judge_by_name, names, [quick] * len(names)))


def summary(results: Sequence[KillResult]) -> dict[str, Any]:
    """Counts; the survivors with the rules that missed them; the mutants that the diagnosis does not name."""
    return {
        "mutants": len(results),
        "killed": sum(result.killed for result in results),
        "survivors": {result.mutant: result.missing for result in results if not result.killed},
        "diagnosed": sum(result.mutant in result.named for result in results),
        "misnamed": {result.mutant: result.named for result in results if result.mutant not in result.named},
    }


def margins_of(name: str) -> dict[str, float] | None:
    """Rule -> largest error / bound of a correct subject over all properties; None if it cannot be imported.

    RuntimeError if a property refuses the subject.
    """
    grading = Grading(Subject(name))
    try:
        _ = grading.subject.offered, grading.subject.conventions
    except ProtocolError:
        return None
    for prop in all_properties().values():
        for case in cases(prop):
            if grading.before(prop, case) is None:
                with grading.attempt(prop, Record(EXAMPLES)) as tried:
                    prop.runnable(profile(EXAMPLES, shrink=False))(subject=grading.subject, **case)
                if tried.outcome.status == Status.BROKEN:
                    raise RuntimeError(f"{name} is refused: {tried.outcome.text}")
    found: dict[str, float] = {}
    for (rule, _), ratio in grading.margins.items():
        found[rule] = max(found.get(rule, 0.0), ratio)
    return found


def without_infinity(x: Any) -> Any:
    """A structure with None for infinity and NaN, which JSON does not have."""
    if isinstance(x, dict):
        return {key: without_infinity(value) for key, value in x.items()}
    if isinstance(x, list):
        return [without_infinity(value) for value in x]
    return None if isinstance(x, float) and not math.isfinite(x) else x


def print_trainer_alone(found: dict[str, Any], file: Path | None) -> int:
    """Say it, and write it as JSON; the exit status, 1 below nine of ten."""
    print(f"{found['refused']} of {found['of']} mistakes of functions are refused through the trainer alone")
    print(*(f"  not refused: {n} ({MUTANTS[n].mistake})" for n in found["not_refused"]), sep="\n")
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return int(found["refused"] < 0.9 * found["of"])


def print_first(found: dict[str, Any], file: Path | None) -> int:
    """Say it, and write it as JSON; the exit status, 1 if a mutant is not refused at all."""
    print(f"{found['root_cause_first']} of {found['of']} mutants: the first failure names the mistake")
    for name, rule in found["first_is_another"].items():
        print(f"  {name}: {rule or 'nothing'} before {', '.join(MUTANTS[name].rules)}")
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return int(not all(found["first_is_another"].values()))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m properties.strength", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "mutants", nargs="*", metavar="MUTANT", help="these alone, with the messages they get"
    )
    parser.add_argument(
        "--quick", action="store_true", help=f"{SAMPLE_SIZE} mutants, only the rules that they list"
    )
    parser.add_argument("--kills", action="store_true", help="only the rules that they list, no diagnosis")
    parser.add_argument(
        "--first",
        action="store_true",
        help="only the first failure that a user sees: does it name the mistake?",
    )
    parser.add_argument(
        "--trainer-alone",
        action="store_true",
        help="mutants of the functions that a loop calls, inside the loop",
    )
    parser.add_argument("--seed", type=int, default=0, help="draws the sample of --quick (default 0)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the counts as JSON")
    parser.add_argument(
        "--margins", action="store_true", help="with --json: the margins of correct subjects as well"
    )
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.mutants if name not in MUTANTS]:
        parser.error(f"no mutant {unknown[0]}")
    start = time.perf_counter()
    names = options.mutants or (sample(options.seed) if options.quick else list(MUTANTS))
    if options.trainer_alone:
        return print_trainer_alone(trainer_alone(options.mutants or expressible()), options.json)
    if options.first:
        return print_first(first_failures(names), options.json)
    quick = options.quick or options.kills
    results = run(names, quick=quick)
    counts = summary(results) | {"seconds": round(time.perf_counter() - start, 1)}
    if options.mutants:
        print(*(kill.message for result in results for kill in result.kills.values()), sep="\n\n", end="\n\n")
    if options.json:
        found = counts | {"results": [asdict(result) | {"named": result.named} for result in results]}
        if options.margins:
            found["margins"] = {n: m for n in CORRECT_SUBJECTS if (m := margins_of(n)) is not None}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(without_infinity(found), indent=1), encoding="utf-8")
    print(f"{counts['killed']} of {counts['mutants']} mutants killed in {counts['seconds']} s", end="")
    print("" if quick else f", {counts['diagnosed']} named by the diagnosis")
    for name, rules in counts["survivors"].items():
        print(f"  survives {', '.join(rules)}: {name} ({MUTANTS[name].mistake})")
    return 1 if counts["survivors"] else 0


if __name__ == "__main__":
    sys.exit(main())
