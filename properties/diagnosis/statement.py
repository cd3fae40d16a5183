"""What a diagnosis says of one failure, and in which words."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fixtures.diagnosis_words import Place
from fixtures.mutants import Mutant
from honestloop.conventions import MEANING
from properties.diagnosis.candidate import Candidate

NAMED = 3
"""Most mistakes named for one failure."""


@dataclass(frozen=True)
class Diagnosis:
    """One of four: a convention that was not declared, known mistakes, a number, a place; or nothing."""

    conventions: Mapping[str, str] = field(default_factory=dict)
    """Key -> value: declared so, every call is right."""
    or_else: tuple[Mapping[str, str], ...] = ()
    """Other conventions that nothing tells apart from these."""
    mutants: tuple[Mutant, ...] = ()
    """Each of them behaves like the subject in every call seen: nothing tells them apart."""
    number: str | None = None
    """A number that explains every call ("rate x 0.1")."""
    place: Place | None = None
    """The first quantity that is wrong while everything before it is right."""
    explained_by: Candidate | None = None
    """The loop or function of which the convention or the number is true."""
    out_of_time: bool = False
    """Whether the time ran out before everything was tried."""

    @property
    def names(self) -> tuple[str, ...]:
        """Ids of the mistakes that are shown."""
        return tuple(mutant.id for mutant in self.mutants[:NAMED])

    @property
    def lines(self) -> tuple[str, ...]:
        """In words, each to stand after "behaves like: "."""
        said = tuple(self._said())
        if self.out_of_time:
            said += ("(the time for a diagnosis ran out before everything was tried)",)
        return said

    def _said(self) -> list[str]:
        if self.conventions:
            declare = " or ".join(map(declaration, (self.conventions, *self.or_else)))
            meaning = "; ".join(MEANING[key] for key in self.conventions)
            return [f"a legal choice that is not declared: declare {declare} ({meaning})"]
        if self.mutants:
            shown = [mutant.described for mutant in self.mutants[:NAMED]]
            more = len(self.mutants) - len(shown)
            also = [f"or {said}: these examples cannot tell them apart" for said in shown[1:]]
            return [shown[0], *also, *([f"or {more} more that behave the same here"] if more else [])]
        if self.number:
            return [f"a loop with another number: {self.number}, everything else is right"]
        if self.place:
            return [f"a mistake in this quantity: {self.place}; what a loop computes before it is right"]
        return []


def declaration(conventions: Mapping[str, str]) -> str:
    """Conventions as they would be declared."""
    return ", ".join(f"{key} = {value!r}" for key, value in conventions.items())
