"""The suite on faults that others collected (fixtures/external): which it refuses, and what the diagnosis says of them.

    python -m properties.external                              the open half
    python -m properties.external --half held-out              the other half: once, when the diagnosis is finished
    python -m properties.external SBK-40002                    one fault, with the message it gets

Each fault is graded by the properties of its function, in the order in which they run, until one refuses it; the
diagnosis of that failure is compared with the answer that stands beside the fault. Exit status 1 if one is not refused.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from fixtures.external import EXTERNAL, External
from fixtures.external.answer import Said, Verdict
from fixtures.replacement import subject_with
from honestloop.conventions import Conventions
from honestloop.protocol import Subject
from properties.checks import all_properties
from properties.diagnosis import diagnose
from properties.grading import place
from properties.profiles import PROFILES
from properties.property_record import Record
from properties.strength import WORKERS, cases, grade, without_infinity

HALVES = ("open", "held-out", "all")


@dataclass(frozen=True)
class Graded:
    """What became of one fault with one seed of Hypothesis."""

    fault: str
    seed: int
    rule: str | None
    """The first rule that refused it; None: none did."""
    said: Said
    verdict: Verdict
    message: str
    seconds: float

    @property
    def refused(self) -> bool:
        return self.rule is not None


def graded(fault: External, seed: int, examples: int) -> Graded:
    """Grade it with the examples that this seed draws, until a property refuses it, and diagnose that."""
    start, conventions = time.perf_counter(), Conventions()
    for test, prop in sorted(all_properties().items(), key=lambda item: place(item[1])):
        for case in cases(prop, fault.function):
            subject = Subject.of(fault.id, subject_with(fault, conventions), conventions)
            record = Record(examples)
            if refused := grade(prop, subject, case, test, record, shrink=True, seed=seed):
                rule, kill = refused
                said = diagnosed(subject, record)
                verdict = fault.answer.judge(said)
                return Graded(fault.id, seed, rule, said, verdict, kill.message, time.perf_counter() - start)
    return Graded(fault.id, seed, None, Said(), Verdict.SILENT, "", time.perf_counter() - start)


def diagnosed(subject: Subject, record: Record) -> Said:
    """What the diagnosis says of the last failing example, as much of it as a user is shown."""
    found = diagnose(
        list(subject.guard.calls),
        list(record.history),
        subject.conventions,
        failures=record.failures,
        fresh=record.fresh,
        subject=subject,
    )
    return Said(found.names, found.conventions, found.place, found.number)


def graded_by_name(id: str, seed: int, examples: int) -> Graded:
    """`graded` for a worker process, which takes the fault by its id."""
    return graded(EXTERNAL[id], seed, examples)


def of_half(half: str) -> list[str]:
    """Ids of the faults of "open", "held-out" or "all"."""
    return [id for id, fault in EXTERNAL.items() if half == "all" or fault.held_out == (half == "held-out")]


def run(ids: Sequence[str], seeds: int, examples: int) -> list[Graded]:
    """Each fault with each of so many seeds, from 0; a line on stderr as soon as one is graded."""
    tasks = [(id, seed, examples) for id in ids for seed in range(seeds)]
    results = []
    with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool:
        for one in pool.map(graded_by_name, *zip(*tasks, strict=True)):
            results.append(one)
            said = f"{one.rule}, diagnosis {one.verdict}" if one.refused else "SURVIVES"
            print(
                f"{len(results)} of {len(tasks)}  {one.fault}, seed {one.seed}: {said} ({one.seconds:.1f} s)",
                file=sys.stderr,
            )
    return results


def in_words(said: Said) -> list[str]:
    """Each statement of a diagnosis."""
    conventions = [f"{key} = {value}" for key, value in said.conventions.items()]
    return [*said.names, *conventions, *filter(None, (said.number, said.place))]


def summary(results: Sequence[Graded]) -> dict[str, Any]:
    """Counts of faults and of diagnoses; who survives which seeds; what was said wrongly.

    The verdicts are of refused gradings alone: nothing is diagnosed where nothing failed.
    """
    survived: dict[str, list[int]] = {}
    for one in results:
        if not one.refused:
            survived.setdefault(one.fault, []).append(one.seed)
    verdicts = Counter(one.verdict for one in results if one.refused)
    faults = len({one.fault for one in results})
    return {
        "faults": faults,
        "refused": faults - len(survived),
        "survivors": survived,
        "diagnosed": sum(verdicts.values()),
        **{str(verdict): verdicts[verdict] for verdict in Verdict},
        "said wrongly": {
            f"{one.fault}, seed {one.seed}": in_words(one.said)
            for one in results
            if one.verdict == Verdict.WRONG
        },
    }


def written(results: Sequence[Graded], half: str, profile: str, seeds: int) -> dict[str, Any]:
    """All of it, for JSON."""
    settings = {"half": half, "profile": profile, "seeds": seeds}
    return settings | summary(results) | {"results": [asdict(one) for one in results]}


def report(counts: dict[str, Any], seeds: int) -> None:
    """Print the counts, the survivors and what was said wrongly."""
    print(f"{counts['refused']} of {counts['faults']} faults refused with each of {seeds} seeds")
    told = ", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict)
    print(f"{counts['diagnosed']} failures diagnosed: {told}")
    for id, where in counts["survivors"].items():
        print(f"  survives seed {', '.join(map(str, where))}: {id} ({EXTERNAL[id].mistake})")
    for which, what in counts["said wrongly"].items():
        print(f"  wrong: {which}: {', '.join(what)}")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m properties.external", description=__doc__.splitlines()[0]
    )
    parser.add_argument("faults", nargs="*", metavar="FAULT", help="these alone, with the messages they get")
    parser.add_argument("--half", choices=HALVES, default="open", help="which faults (default open)")
    parser.add_argument(
        "--profile", choices=PROFILES, default="dev", help="examples a property (default dev)"
    )
    parser.add_argument("--seeds", type=int, default=3, help="of Hypothesis, from 0 (default 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results as JSON")
    options = parser.parse_args(arguments)
    if unknown := [id for id in options.faults if id not in EXTERNAL]:
        parser.error(f"no fault {unknown[0]}")
    if options.seeds < 1:
        parser.error("--seeds must be at least 1")
    ids = options.faults or of_half(options.half)
    results = run(ids, options.seeds, PROFILES[options.profile].max_examples)
    found = written(results, options.half, options.profile, options.seeds)
    if options.faults:
        print(*(one.message or f"{one.fault}: not refused" for one in results), sep="\n\n", end="\n\n")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(without_infinity(found), indent=1), encoding="utf-8")
    report(found, options.seeds)
    return 1 if found["survivors"] else 0


if __name__ == "__main__":
    sys.exit(main())
