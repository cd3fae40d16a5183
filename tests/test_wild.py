"""Loops that others wrote: short adapters, a finding for each declared failure, and a sample that is graded here."""

from pathlib import Path

import pytest

from fixtures.wild.findings import REPRODUCTIONS, expected, findings, reproduce
from fixtures.wild.table import LOOPS, WildLoop
from honestloop import scaffold
from properties import wild
from reference.rules import RULES

ADAPTERS = Path(__file__).resolve().parents[1] / "honestloop" / "templates" / "adapters"
MOST_LINES = 50


@pytest.mark.parametrize("framework", scaffold.FRAMEWORKS)
def test_an_adapter_is_short(framework):
    assert len((ADAPTERS / f"{framework}.py").read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def test_each_finding_is_of_a_loop_names_rules_and_has_a_script():
    for finding in findings().values():
        assert finding.loop in LOOPS
        assert set(finding.rules) <= RULES.keys()
        assert finding.script or finding.decision
    assert {path.stem for path in REPRODUCTIONS.glob("*.py")} <= findings().keys()


@pytest.mark.parametrize("id", ["trainer_nan_becomes_zero", "lightning_leftover_window"])
def test_a_reproduction_shows_its_finding(id):
    shown, output = reproduce(findings()[id])
    assert shown, output


def test_a_script_that_does_not_show_its_finding_is_said(tmp_path, monkeypatch):
    (tmp_path / "trainer_nan_becomes_zero.py").write_text("assert False, 'mended'\n")
    monkeypatch.setattr("fixtures.wild.findings.REPRODUCTIONS", tmp_path)
    shown, output = reproduce(findings()["trainer_nan_becomes_zero"])
    assert not shown
    assert "mended" in output


def test_a_failure_that_no_finding_names_and_one_that_did_not_happen_are_problems():
    result = {
        "loop": "trainer",
        "broken": {"LOOP-02": "..."},
        "unfulfilled": ["EVAL-01: holds"],
        "reproductions": {"trainer_mean_of_means": {"shown": False, "output": "AssertionError"}},
    }
    assert [line.split(":")[1].split()[0] for line in wild.problems(result)] == [
        "broke",
        "EVAL-01",
        "trainer_mean_of_means",
    ]
    assert not wild.problems({"loop": "keras", "broken": {}, "unfulfilled": [], "reproductions": {}})


def test_trainer_fails_where_it_is_said_to_and_nowhere_else():
    report = wild.graded("trainer", "--rule", "LOOP-03", "--rule", "EVAL-01")
    assert report["status"] == 0
    assert report["rules"]["LOOP-03"] == "holds"
    assert report["rules"]["EVAL-01"] == "expected failure"
    assert report["expected"].keys() == {"EVAL-01"} <= expected("trainer").keys()


def test_what_is_missing_is_one_line(monkeypatch, tmp_path):
    assert "not installed" in wild.missing(WildLoop("x", ("no-such-distribution",)))
    loop = WildLoop("x", repository="owner/name", variable="WILD_X", file="train.py")
    monkeypatch.delenv("WILD_X", raising=False)
    assert "WILD_X is not set" in wild.missing(loop)
    monkeypatch.setenv("WILD_X", str(tmp_path))
    assert "there is no train.py" in wild.missing(loop)
    (tmp_path / "train.py").touch()
    assert not wild.missing(loop)


def test_an_unknown_loop_is_wrong_use(capsys):
    with pytest.raises(SystemExit) as ended:
        wild.main(["nosuch"])
    assert ended.value.code == 2
    assert "there is no loop 'nosuch'" in capsys.readouterr().err


@pytest.mark.parametrize("framework", scaffold.FRAMEWORKS)
def test_init_writes_the_adapter_of_a_framework(framework, tmp_path):
    assert scaffold.make_adapter("mine", tmp_path, framework) == [Path("mine.py")]
    assert (tmp_path / "mine.py").read_bytes() == (ADAPTERS / f"{framework}.py").read_bytes()
    with pytest.raises(ValueError, match="exists already"):
        scaffold.make_adapter("mine", tmp_path, framework)
    with pytest.raises(ValueError, match="no name of a Python package"):
        scaffold.make_adapter("not-a-name", tmp_path, framework)


def test_a_command_that_could_grade_nothing_fails(monkeypatch, capsys):
    monkeypatch.setattr(wild, "missing", lambda loop: "no such package")
    assert wild.main([]) == 3
    assert capsys.readouterr().err.splitlines()[-1] == "error: no loop could be run, so nothing was graded"
