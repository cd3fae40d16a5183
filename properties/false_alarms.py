"""Correct functions in other arithmetic, graded by the properties of their function: none may be refused.

    python -m properties.false_alarms                       all of them, as many examples as in dev
    python -m properties.false_alarms --examples 60 gelu    those of one function, or of one id, with more examples

Exit status 1 if one is refused.
"""

import argparse
import sys
import time
from collections.abc import Iterable, Sequence

from fixtures.correct_variants import VARIANTS, Variant
from fixtures.subjects import reference
from honestloop.protocol import Subject
from properties.checks import all_properties
from properties.property_record import Record
from properties.strength import Kill, cases, grade

EXAMPLES = 20


def refusals(variant: Variant, examples: int = EXAMPLES) -> tuple[int, list[Kill]]:
    """(number of properties that graded it, the refusals)."""
    declared = variant.conventions
    functions = reference.functions(declared) | {variant.function: variant.written}
    found, graded = [], 0
    for test, prop in all_properties().items():
        if prop.about_presence:
            continue
        for case in cases(prop, variant.function):
            if case.get("dtype", declared.float_types[0]) in declared.float_types:
                graded += 1
                subject = Subject.of(variant.id, functions, declared)
                if refused := grade(prop, subject, case, test, Record(examples)):
                    found.append(refused[1])
    return graded, found


def chosen(names: Iterable[str]) -> list[Variant]:
    """The variants of these ids or functions; all of them for none. ValueError for a name that is neither."""
    wanted = list(names)
    known = {*VARIANTS, *(v.function for v in VARIANTS.values())}
    if unknown := [name for name in wanted if name not in known]:
        raise ValueError(f"no correct variant {unknown[0]}")
    return [v for v in VARIANTS.values() if not wanted or {v.id, v.function} & set(wanted)]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m properties.false_alarms", description=__doc__.splitlines()[0]
    )
    parser.add_argument("names", nargs="*", metavar="ID", help="these variants, or those of these functions")
    parser.add_argument(
        "--examples", type=int, default=EXAMPLES, help="of each property (default %(default)s)"
    )
    options = parser.parse_args(arguments)
    try:
        variants = chosen(options.names)
    except ValueError as error:
        parser.error(str(error))
    start, refused, graded = time.perf_counter(), 0, 0
    for variant in variants:
        properties, found = refusals(variant, options.examples)
        graded += properties
        refused += bool(found)
        for kill in found[:1]:
            print(
                f"{variant.id} ({variant.form}; {variant.library}): {kill.test}\n{kill.message}\n", flush=True
            )
    seconds = time.perf_counter() - start
    print(f"{refused} of {len(variants)} correct variants refused, in {graded} gradings, {seconds:.0f} s")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
