"""The diagnosis on mistakes that it does not know: each mutant taken out of its table, and then diagnosed.

    python -m properties.left_out --json runs/left_out.json    a sample of the table, for docs/strength.md
    python -m properties.left_out --all                        every mutant
    python -m properties.left_out opt_no_eps                   one of them, and what is said of it

What is said of the first failure is judged by examples that the diagnosis did not see, drawn with another seed from the
properties that the mutant breaks:

    right      a convention, a number or other mistakes (one of those named) that behave like it in every one of them
    localised  a place, and it is one of those that the rule (`PLACES`) or the function is about
    silent     nothing
    wrong      anything else

Exit status 1 if more than `WRONG` of the diagnoses are wrong.
"""

import argparse
import json
import random
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from hypothesis import seed as seeded

from fixtures.diagnosis_words import Place
from fixtures.external.answer import Verdict
from fixtures.mutants import MUTANTS, Mutant, subject_with
from honestloop.conventions import Conventions
from honestloop.guard import Call
from honestloop.protocol import Subject
from properties.assertions import NotOfferedError, Refusal
from properties.checks import Property, all_properties
from properties.diagnosis import Diagnosis, diagnose
from properties.diagnosis.candidate import Candidate, suspects
from properties.diagnosis.function_place import RESULTS
from properties.grading import place
from properties.property_record import Record, recording
from properties.strength import WORKERS, cases, grade, profile
from reference.rules import RULES

EXAMPLES = 20
"""Of a property, as a user of the profile dev has."""
SAMPLE = 60
"""Mutants that are left out when not all are."""
WRONG = 0.02
"""Share of wrong diagnoses that is too many."""
P = Place
PLACES: dict[str, frozenset[Place]] = {
    "LOOP-01": frozenset({P.ROWS, P.MASK, P.LOG, P.TARGETS}),
    "LOOP-02": frozenset({P.LOSS, P.LOG, P.TARGETS, P.LOGITS, P.ROWS, P.MASK, P.DROPOUT}),
    "LOOP-03": frozenset({P.GRADIENT, P.NORM, P.LOG}),
    "LOOP-04": frozenset({P.RATE, P.LOG}),
    "LOOP-05": frozenset(
        {P.LOSS, P.GRADIENT, P.UPDATE, P.EPSILON, P.STEP_COUNT, P.DECAY, P.PARAMETERS, P.ROWS}
    ),
    "LOOP-06": frozenset({P.CLIPPING, P.NORM}),
    "LOOP-07": frozenset(
        {
            P.FIRST_MOMENT,
            P.SECOND_MOMENT,
            P.STEP_COUNT,
            P.UPDATE,
            P.RATE,
            P.DECAY,
            P.GRADIENT,
            P.LOG,
            P.CLIPPING,
        }
        | {P.PARAMETERS}
    ),
    "LOOP-08": frozenset({P.DECAY, P.PARAMETERS, P.LOSS, P.GRADIENT, P.ROWS}),
    "LOOP-09": frozenset({P.ROWS, P.LOSS, P.GRADIENT}),
    "LOOP-10": frozenset({P.MASK, P.LOSS, P.ROWS}),
    "LOOP-11": frozenset({P.ROWS, P.GRADIENT, P.RATE, P.UPDATE, P.DROPOUT, P.STEP_COUNT}),
    "LOOP-12": frozenset({P.REFUSAL}),
    "LOOP-13": frozenset({P.PARAMETERS}),
    "LOOP-14": frozenset({P.REFUSAL, P.RATE, P.STEP_COUNT, P.LOG}),
    "LOOP-15": frozenset(
        {P.ROWS, P.MASK, P.LOGITS, P.LOSS, P.GRADIENT, P.UPDATE, P.DECAY, P.PARAMETERS, P.EVALUATION}
    ),
    "RNG": frozenset({P.DROPOUT}),
    "DROP": frozenset({P.DROPOUT}),
    "EVAL": frozenset({P.EVALUATION, P.DROPOUT}),
    "STATE": frozenset({P.CHECKPOINT, P.DROPOUT}),
    "LOSS": frozenset({P.LOSS, P.GRADIENT}),
    "GRAD": frozenset({P.GRADIENT}),
    "OPT": frozenset({P.FIRST_MOMENT, P.SECOND_MOMENT, P.STEP_COUNT, P.UPDATE, P.EPSILON, P.DECAY}),
    "CLIP": frozenset({P.NORM, P.CLIPPING}),
    "SCHED": frozenset({P.RATE}),
    "DATA": frozenset({P.ROWS, P.ORDER, P.TARGETS, P.MASK}),
    "ACT": frozenset({P.ACTIVATION, P.GRADIENT}),
    "NORM": frozenset({P.NORMALISATION, P.GRADIENT}),
    "ATT": frozenset({P.LOGITS, P.GRADIENT}),
    "ROPE": frozenset({P.LOGITS, P.GRADIENT}),
    "MODEL": frozenset({P.LOGITS, P.START}),
    "MATMUL": frozenset({P.LOGITS}),
    "MASK": frozenset({P.LOGITS, P.LOSS, P.GRADIENT}),
    "PPL": frozenset({P.EVALUATION}),
    "ROUND": frozenset({P.CHECKPOINT}),
}
"""Rule, or family of rules -> the places that a mutant which it must refuse can have."""


@dataclass(frozen=True)
class LeftOut:
    """What became of one mutant that the diagnosis did not know."""

    mutant: str
    rule: str | None
    """The rule that refused it; None: no property of its rules did."""
    said: str
    verdict: Verdict


def left_out(mutant: Mutant, seed: int = 0) -> LeftOut:
    """Grade a mutant by the properties of its rules, diagnose the first failure without it, and judge that."""
    conventions = Conventions()
    for _, prop, case, test in graded_by(mutant):
        subject = Subject.of(mutant.id, subject_with(mutant, conventions), conventions)
        record = Record(EXAMPLES)
        if refused := grade(prop, subject, case, test, record, shrink=True, seed=seed):
            found = diagnose(
                list(subject.guard.calls),
                list(record.history),
                conventions,
                failures=record.failures,
                fresh=record.fresh,
                subject=subject,
                without=frozenset({mutant.id}),
            )
            return LeftOut(mutant.id, refused[0], "; ".join(found.lines), judged(found, mutant, seed + 1))
    return LeftOut(mutant.id, None, "", Verdict.SILENT)


def graded_by(mutant: Mutant) -> Iterator[tuple[int, Property, dict[str, Any], str]]:
    """(place, property, case, its name) of every property of its rules, in the order in which they run."""
    for test, prop in sorted(all_properties().items(), key=lambda item: place(item[1])):
        if set(prop.rules) & set(mutant.rules):
            for case in cases(prop, mutant.function):
                yield place(prop), prop, case, test


def judged(found: Diagnosis, mutant: Mutant, seed: int) -> Verdict:
    """What it is worth, by examples of this seed."""
    if found.place:
        of_rules = frozenset().union(*(places_of(rule) for rule in mutant.rules))
        allowed = of_rules | frozenset(RESULTS.get(mutant.function, {}).values())
        return Verdict.LOCALISED if found.place in allowed else Verdict.WRONG
    if not found.lines or not (found.mutants or found.explained_by):
        return Verdict.SILENT
    candidates = [found.explained_by] if found.explained_by else list(named(found, mutant))
    fresh = list(examples(mutant, seed))
    return Verdict.RIGHT if any(holds(one, fresh) for one in candidates) else Verdict.WRONG


def named(found: Diagnosis, mutant: Mutant) -> Iterator[Candidate]:
    """The mistakes that are named, as functions."""
    for suspect in suspects(mutant.function, Conventions(), frozenset({mutant.id})):
        if suspect.name in found.names:
            yield suspect


def holds(candidate: Candidate, fresh: Sequence[Sequence[Call]]) -> bool:
    """Whether it behaves like the subject in all of these examples."""
    return all(candidate.match(example) for example in fresh)


def examples(mutant: Mutant, seed: int) -> Iterator[list[Call]]:
    """The calls of the mutant in the examples of another seed, whether they pass or fail."""
    conventions = Conventions()
    for _, prop, case, _ in graded_by(mutant):
        subject = Subject.of(mutant.id, subject_with(mutant, conventions), conventions)
        seen: list[list[Call]] = []

        def watched(*args: Any, prop: Property = prop, seen: Any = seen, **kwargs: Any) -> None:
            with suppress(Refusal, NotOfferedError):
                prop.example(*args, **kwargs)
            seen.append(list(kwargs["subject"].guard.calls))

        with recording(Record(EXAMPLES)):
            runnable = prop.runnable(profile(EXAMPLES, shrink=False), watched)
            (seeded(seed)(runnable) if prop.strategies else runnable)(subject=subject, **case)
        yield from seen


def places_of(rule: str) -> frozenset[Place]:
    """The places of a rule, or of its family."""
    return PLACES.get(rule, PLACES.get(RULES[rule].family, frozenset()))


def sampled(seed: int) -> list[str]:
    """`SAMPLE` mutants as a function of the seed, at most a third of them of the loop, as in the table."""
    names = sorted(MUTANTS)
    random.Random(f"left out/{seed}").shuffle(names)
    return names[:SAMPLE]


def by_name(name: str, seed: int) -> LeftOut:
    """`left_out` for a worker process."""
    return left_out(MUTANTS[name], seed)


def summary(results: Sequence[LeftOut]) -> dict[str, Any]:
    """Counts of verdicts, of mutants that were refused; and what was said wrongly."""
    refused = [one for one in results if one.rule]
    counts = Counter(one.verdict for one in refused)
    return {
        "left out": len(results),
        "diagnosed": len(refused),
        **{str(verdict): counts[verdict] for verdict in Verdict},
        "said wrongly": {one.mutant: one.said for one in refused if one.verdict == Verdict.WRONG},
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m properties.left_out", description=__doc__.splitlines()[0]
    )
    parser.add_argument("mutants", nargs="*", metavar="MUTANT", help="these alone")
    parser.add_argument("--all", action="store_true", help=f"every mutant, not a sample of {SAMPLE}")
    parser.add_argument("--seed", type=int, default=0, help="draws the sample and the examples (default 0)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results as JSON")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.mutants if name not in MUTANTS]:
        parser.error(f"no mutant {unknown[0]}")
    names = options.mutants or (sorted(MUTANTS) if options.all else sampled(options.seed))
    with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool:
        results = list(pool.map(by_name, names, [options.seed] * len(names)))
    counts = summary(results)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        found = counts | {"seed": options.seed, "results": [asdict(one) for one in results]}
        options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    told = ", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict)
    print(
        f"{counts['diagnosed']} of {counts['left out']} mutants refused and diagnosed without themselves: {told}"
    )
    for one in results:
        if options.mutants or one.verdict == Verdict.WRONG:
            print(f"  {one.verdict}: {one.mutant} ({one.rule}): {one.said or 'nothing'}")
    return 1 if counts[Verdict.WRONG] > WRONG * max(counts["diagnosed"], 1) else 0


if __name__ == "__main__":
    sys.exit(main())
