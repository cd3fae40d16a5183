"""The order of a diagnosis: convention, known mistake, number, place; the first that holds everywhere is the answer."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from fixtures.diagnosis_words import Place
from fixtures.mutants import MUTANTS
from honestloop.conventions import Conventions
from honestloop.guard import Call
from honestloop.protocol import Subject
from properties.diagnosis import chain, function_numbers, numbers, undeclared
from properties.diagnosis.budget import Budget
from properties.diagnosis.candidate import Candidate, Match, suspects
from properties.diagnosis.evidence import Evidence, Fresh
from properties.diagnosis.function_place import place_in_function
from properties.diagnosis.quantities import compared
from properties.diagnosis.statement import Diagnosis

Example = Sequence[Call]


def diagnose(
    example: Example,
    passed: Sequence[Example],
    conventions: Conventions,
    *,
    failures: Sequence[Example] = (),
    subject: Subject | None = None,
    fresh: Fresh | None = None,
    without: frozenset[str] = frozenset(),
) -> Diagnosis:
    """What the failing example looks like; an empty diagnosis if the oracle explains it, or nothing does.

    `passed` and `failures` hold the calls of other examples, `subject` is asked for more, and
    `fresh(seed)` runs the property on new examples. `without`: mutants that the
    diagnosis is not to know.
    """
    budget = Budget()
    conventions = replace(conventions, accumulate="argument")  # as all calls are read
    for function in dict.fromkeys(call.function for call in example):
        evidence = unexplained(
            Evidence.of(function, one, passed, failures, subject, conventions, budget, fresh)
            for one in (example, *failures)
        )
        if evidence is not None:
            found = of_function(evidence, without)
            if found.lines:
                return found
    return Diagnosis(out_of_time=budget.ran_out)


def unexplained(found: Iterable[Evidence]) -> Evidence | None:
    """The first example that the oracle does not explain: one that is not repeatable may have passed at last."""
    return next((e for e in found if e.failing.example and e.failing.of_oracle < Match.EXACT), None)


def of_function(evidence: Evidence, without: frozenset[str]) -> Diagnosis:
    """The diagnosis of one function."""
    required = evidence.failing.of_oracle + 1
    if legal := undeclared_conventions(evidence, required):
        return legal
    names = matching(evidence, required, without)
    if names:
        return Diagnosis(mutants=tuple(MUTANTS[name] for name in names), out_of_time=evidence.budget.ran_out)
    # Hundreds of known mistakes may have taken all the time: what is solved for and where it begins have their own.
    fresh = replace(evidence, budget=Budget())
    if found := numbered(fresh, required):
        return Diagnosis(number=found[0], explained_by=found[1])
    place = None
    if evidence.failing.of_oracle == Match.NONE:
        place = located(fresh)
    return Diagnosis(place=place, out_of_time=evidence.budget.ran_out or fresh.budget.ran_out)


def undeclared_conventions(evidence: Evidence, required: int) -> Diagnosis | None:
    """The fewest conventions under which everything is right; None if there are none."""
    found: list[tuple[dict[str, str], Candidate]] = []
    for changed, candidate in undeclared.variants(evidence.function, evidence.conventions):
        if found and len(changed) > len(found[0][0]):
            break
        if evidence.failing.match(candidate, required) >= required and evidence.confirms(candidate):
            found.append((changed, candidate))
    if not found:
        return None
    (first, candidate), *others = found
    return Diagnosis(conventions=first, or_else=tuple(c for c, _ in others), explained_by=candidate)


def matching(evidence: Evidence, required: int, without: frozenset[str]) -> list[str]:
    """Ids of the known mistakes that nothing contradicts, those that match best first."""
    found: dict[str, int] = {}
    for suspect in suspects(evidence.function, evidence.conventions, without):
        if not evidence.budget.left():
            break
        if evidence.failing.match(suspect, required) >= required and evidence.confirms(suspect):
            found[suspect.name] = max(found.get(suspect.name, 0), evidence.score(suspect))
    return sorted(found, key=lambda name: -found[name])


def numbered(evidence: Evidence, required: int) -> tuple[str, Candidate] | None:
    """A number that is not the configured one and explains every call of a loop or of a function."""
    for said, candidate in guesses(evidence):
        if not evidence.budget.left():
            break
        if evidence.failing.match(candidate, required) >= required and evidence.confirms(candidate):
            return said, candidate
    return None


def guesses(evidence: Evidence) -> Iterator[tuple[str, Candidate]]:
    """(what would be said, the candidate of which it is true)."""
    if evidence.function == "trainer":
        for said, loop in numbers.guesses(evidence.compared):
            yield said, Candidate.loop(said, loop, evidence.conventions)
        return
    calls = [call for shown in (*evidence.failures[:1], evidence.failing) for call in shown.example]
    yield from function_numbers.guesses(evidence.function, calls, evidence.conventions)


def located(evidence: Evidence) -> Place | None:
    """Where the mistake is."""
    if evidence.function != "trainer":
        return place_in_function(evidence.function, evidence.failing.example, evidence.conventions)
    return chain.place(evidence.compared, compared(evidence.failing.example, evidence.conventions))
