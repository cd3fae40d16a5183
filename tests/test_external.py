"""The table of faults that others collected: complete, each a fault, and its answers in the words of the suite.

The held-out half is not graded here: of those it is only asked that they differ from the oracle on a fixed input.
"""

import ast
import re
import tomllib
from pathlib import Path

import pytest

from fixtures import external
from fixtures.external import ALIASES, EXTERNAL, FILES, SOURCES, Alias, External, Publisher
from fixtures.external.answer import Answer, Place, Quantity, Said, Verdict, equals, times
from fixtures.external.fixed_inputs import CALLS, differs
from fixtures.external.table import publisher_of
from fixtures.mutants import MUTANTS
from fixtures.subjects import reference
from honestloop.conventions import LEGAL, Conventions
from honestloop.protocol import FUNCTIONS

FOLDER = Path(external.__file__).parent
HELPERS = {"__init__", "answer", "table", "parts", "fixed_inputs"}
ANSWER = Answer(
    (Place.RATE, Place.LOSS),
    names=("loop_never_clips",),
    numbers=(times(Quantity.RATE, 0.1),),
    conventions={"eps": "before correction"},
)


@pytest.mark.parametrize("id", EXTERNAL)
def test_each_fault_differs_from_the_oracle_on_its_fixed_input(id):
    assert differs(EXTERNAL[id].function, EXTERNAL[id].under())


@pytest.mark.parametrize("function", CALLS)
def test_the_oracle_does_not_differ_from_itself(function):
    assert not differs(function, reference.functions(Conventions())[function])


def test_every_file_of_the_folder_is_a_publisher_s_or_a_helper():
    assert {path.stem for path in FOLDER.glob("*.py")} == {*FILES, *HELPERS}


def test_the_table_stands_apart_from_the_mutants():
    for path in FOLDER.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert not str(node.module).startswith("fixtures.mutants"), path
    assert not EXTERNAL.keys() & MUTANTS.keys()


def test_ids_are_a_publisher_s_and_occur_once():
    ids = [*EXTERNAL, *ALIASES]
    assert len(set(ids)) == len(ids)
    assert {publisher_of(id) for id in ids} <= set(SOURCES)
    assert all(alias.same_as in EXTERNAL for alias in ALIASES.values())


def test_an_answer_is_in_the_words_of_the_suite():
    for fault in EXTERNAL.values():
        assert fault.function in FUNCTIONS
        assert fault.answer.places
        assert set(fault.answer.names) <= MUTANTS.keys()
        assert all(value in LEGAL[key] for key, value in fault.answer.conventions.items())
        assert all(any(said.startswith(q) for q in Quantity) for said in fault.answer.numbers)
        assert not fault.mistake.endswith(".")


def test_the_halves_are_fixed():
    """By SHA-256 of the id, so that no edit of the table moves a fault from one half to the other."""
    known = {"DC-TCL": False, "SBK-33929": True, "TC-84911": True, "TP-A1": False, "TP-A2": True}
    assert {id: EXTERNAL[id].held_out for id in known} == known
    assert 0.4 < sum(fault.held_out for fault in EXTERNAL.values()) / len(EXTERNAL) < 0.6


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        (Said(), Verdict.SILENT),
        (Said(names=("loop_never_clips",)), Verdict.RIGHT),
        (Said(names=("loop_bias_decays", "loop_never_clips")), Verdict.RIGHT),
        (Said(names=("loop_bias_decays",)), Verdict.WRONG),
        (Said(names=("loop_bias_decays",), place="rate"), Verdict.WRONG),
        (Said(conventions={"eps": "before correction"}), Verdict.RIGHT),
        (Said(conventions={"decay": "with"}), Verdict.WRONG),
        (Said(place="rate"), Verdict.LOCALISED),
        (Said(place="loss"), Verdict.LOCALISED),
        (Said(place="norm"), Verdict.WRONG),
        (Said(number="rate x 0.1"), Verdict.LOCALISED),
        (Said(place="rate", number="rate x 0.2"), Verdict.WRONG),
        (Said(names=("loop_never_clips",), place="norm"), Verdict.WRONG),
        (Said(names=("loop_never_clips",), place="rate"), Verdict.RIGHT),
    ],
)
def test_a_diagnosis_is_judged(said, verdict):
    assert ANSWER.judge(said) == verdict


def test_nothing_said_is_not_right_where_no_convention_explains_the_fault():
    assert Answer((Place.LOSS,)).judge(Said()) == Verdict.SILENT


def test_numbers_are_written_to_three_digits():
    assert times(Quantity.RATE, 0.1 + 1e-9) == "rate x 0.1"
    assert equals(Quantity.EPSILON, 1e-16) == "epsilon = 1e-16"


LEFT = tomllib.loads((FOLDER / "not_expressible.toml").read_text(encoding="utf-8"))


def units(publisher):
    """The rows of a publisher's list that the table has: ids, DeepCrime's operators, TheDeepChecker's folders.

    TrainCheck's errors are counted once where several shares or forms of one are translated.
    """
    everything: list[External | Alias] = [*EXTERNAL.values(), *ALIASES.values()]
    rows = [row for row in everything if row.publisher == publisher]
    ids = {id for row in rows for id in (row.id, *row.also)}
    ids |= {id for row in everything for id in row.also}
    if publisher == Publisher.DC:
        return {row.published for row in rows}
    if publisher == Publisher.TDC:
        return {name for row in rows for name in re.sub(r"[:(].*", "", row.published).strip().split(", ")}
    own = {id for id in ids if "#" not in id and publisher_of(id) == publisher}
    return {"-".join(id.split("-")[:2]) for id in own} if publisher == Publisher.TC else own


@pytest.mark.parametrize("publisher", Publisher)
def test_every_row_of_a_collection_is_translated_or_cannot_be_and_why(publisher):
    entry = LEFT[publisher]
    left = entry.get("left", ())
    assert all(kind["reason"] and kind["ids"] for kind in left)
    named = [id for kind in left if "count" not in kind for id in kind["ids"]]
    assert len(set(named)) == len(named)
    assert not {*named, *(f"{publisher}-{id}" for id in named)} & units(publisher)
    absent = sum(kind.get("count", len(kind["ids"])) for kind in left)
    assert len(units(publisher)) + absent == entry["size"] + entry.get("beside", 0)


def test_a_source_is_named_for_every_publisher():
    assert set(LEFT) == set(SOURCES) == set(Publisher)
