"""The command that grades the faults of others: which half, what it counts, and what its page says."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from fixtures.external import EXTERNAL
from fixtures.external.answer import Said, Verdict
from properties import external
from properties.external import Graded
from tests.page_generator import generator

ROOT = Path(__file__).resolve().parents[1]
OPEN = external.of_half("open")
RIGHT = Graded(OPEN[0], 0, "LOOP-02", Said(names=("loop_bias_decays",)), Verdict.RIGHT, "LOOP-02  ...", 0.5)
MADE_UP = [
    RIGHT,
    replace(RIGHT, seed=1, verdict=Verdict.WRONG),
    replace(RIGHT, fault=OPEN[1], said=Said(place="rate"), verdict=Verdict.LOCALISED),
    replace(RIGHT, fault=OPEN[1], seed=1, rule=None, said=Said(), verdict=Verdict.SILENT),
]


def test_the_halves_are_apart_and_together_all():
    held_out = external.of_half("held-out")
    assert not set(OPEN) & set(held_out)
    assert sorted(OPEN + held_out) == sorted(external.of_half("all")) == sorted(EXTERNAL)


def test_a_fault_is_refused_only_with_every_seed():
    counts = external.summary(MADE_UP)
    assert (counts["faults"], counts["refused"], counts["survivors"]) == (2, 1, {OPEN[1]: [1]})


def test_verdicts_are_of_failures_alone():
    counts = external.summary(MADE_UP)
    assert counts["diagnosed"] == 3
    assert [counts[verdict] for verdict in Verdict] == [1, 1, 0, 1]
    assert counts["said wrongly"] == {f"{OPEN[0]}, seed 1": ["loop_bias_decays"]}


def test_an_open_fault_is_refused_and_judged():
    fault = EXTERNAL["DC-ACH-tanh"]
    assert not fault.held_out
    one = external.graded(fault, seed=0, examples=20)
    assert one.rule == "ACT-01"
    assert one.verdict == fault.answer.judge(one.said)
    assert one.message.startswith("ACT-01  ")


def test_an_unknown_fault_is_one_line(capsys):
    with pytest.raises(SystemExit) as ended:
        external.main(["NO-1"])
    assert ended.value.code == 2
    assert re.search(r"error: no fault NO-1$", capsys.readouterr().err.strip())


def test_no_seed_is_an_error(capsys):
    with pytest.raises(SystemExit) as ended:
        external.main(["--seeds", "0"])
    assert ended.value.code == 2
    assert "--seeds" in capsys.readouterr().err


PEERS = {
    "faults": 2,
    "not here": {"TCB-MPS": "needs a device"},
    "peers": {
        "a tool 1.0": {"right loop": {}, "faults": {"TP-A1": {"accumulation": "differs"}, "TP-A5": {}}}
    },
}


def test_the_pages_have_a_row_for_every_fault_and_its_verdicts():
    """`python docs/generate.py` writes it from the JSON of the command, and of the other tools if they were asked."""
    pages = generator("page_writers/external")
    found = json.loads(json.dumps(external.written(MADE_UP, "open", "dev", 2)))
    page, tables = pages.external_page(found), pages.external_tables(found)
    for id in EXTERNAL:
        assert f"| {id}" in tables
    assert "LOOP-02; **SURVIVES**" in tables
    assert "| right; wrong |" in tables
    assert "1 of 2" in page
    assert "## Other tools" not in page
    assert "| a tool 1.0 | 1 | TP-A1 (accumulation) |" in pages.external_page(found, peers=PEERS)


def test_the_committed_pages_are_of_what_was_measured():
    for name, text in generator("generate").external().items():
        assert (ROOT / "docs" / name).read_text(encoding="utf-8") == text
