"""The verdict: what counts as a pass, what never does, and what the badge says then."""

import importlib.util
import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from gates.verdict.badge import GREEN, OLIVE, RED, YELLOW, badge
from gates.verdict.definition import GATES, controls, gate_of, gates_of, rule_of
from gates.verdict.files import as_dict, changed, write, write_controls
from gates.verdict.finding import Finding, at_most, no_problems, nothing_to_judge, within
from gates.verdict.outcome import EXPECTED, FAILED, INCOMPLETE, NOT_OFFERED, NOT_RUN, PASSED, Verdict
from gates.verdict.printing import summary, text
from honestloop.description import Level
from honestloop.suite_location import ROOT
from pages.run_data import RunData
from reference.rules import RULES

PHASE_18 = gates_of(Level.PHASE_18)


def finding(where: str, passed: bool = True, problem: str = "") -> Finding:
    return Finding(where, passed, "1", "<= 2", "+1", problem, "3", "2")


def complete(all_controls: bool = True, level: Level = Level.PHASE_18, adapter: bool = True) -> Verdict:
    """Everything ran, everything passed, every control was refused for its fault."""
    verdict = Verdict("impl", all_controls=all_controls, level=level, adapter=adapter)
    for gate in verdict.gates:
        for check in gate.checks:
            verdict.record(finding(f"{gate.name}/{check}"))
    for c in verdict.controls:
        verdict.record_control(
            c.name, finding(f"{c.gate}/{c.check}", passed=False, problem=f"it says {c.because}")
        )
    return verdict


def colour(verdict: Verdict) -> str:
    return str(badge(verdict)["color"])


def test_every_gate_has_its_test_file_and_every_control_its_subject():
    for gate in GATES:
        assert (ROOT / "gates" / f"test_{gate.name}.py").is_file()
        assert gate_of(f"test_{gate.name}.py") == gate.name
    for control in controls():
        assert rule_of(f"{control.gate}/{control.check}")
        assert importlib.util.find_spec(f"fixtures.controls.{control.name}")
    assert len({c.name for c in controls()}) == len(controls())


def test_every_gate_has_a_control_that_it_must_refuse():
    assert {c.gate for c in controls()} == {g.name for g in PHASE_18}


def test_every_check_has_a_rule_and_every_rule_of_a_gate_a_check():
    checked = {rule for gate in GATES for rule in gate.checks.values()}
    assert checked <= RULES.keys()
    families = {"RESUME", "CKPT", "MAN", "TRACK", "DRIFT", "UPDATE", "SUITE"}
    assert {rule.id for rule in RULES.values() if rule.family in families} <= checked


def test_the_selection_of_every_session_is_a_part_of_all_controls():
    some, everything = Verdict("impl").controls, Verdict("impl", all_controls=True).controls
    assert everything == list(controls())
    assert 0 < len(some) < len(everything)


def test_a_full_session_tells_what_became_of_every_control(tmp_path):
    verdict = complete()
    verdict.facts["seconds"] = {"control/untrained": 1.5}
    del verdict.refusals["l2_decay"]
    write_controls(verdict, tmp_path)
    told = {c["control"]: c for c in json.loads((tmp_path / "controls.json").read_bytes())["controls"]}
    assert told.keys() == {c.name for c in controls()}
    assert told["untrained"]["refused"]
    assert (told["untrained"]["by"], told["untrained"]["seconds"]) == ("perplexity/committed", 1.5)
    assert not told["l2_decay"]["refused"]
    assert (told["l2_decay"]["bugs"], told["l2_decay"]["rule"]) == ([40], "UPDATE-02")


def test_green_needs_everything():
    assert complete().overall == PASSED
    assert colour(complete()) == GREEN


@pytest.mark.parametrize("gate", [g.name for g in PHASE_18])
def test_a_check_that_did_not_run_did_not_pass(gate):
    verdict = complete()
    where = next(where for where in verdict.findings if where.startswith(gate))
    del verdict.findings[where]
    assert (verdict.of_check(where), verdict.of_gate(gate), verdict.overall) == (NOT_RUN, NOT_RUN, INCOMPLETE)
    assert colour(verdict) == YELLOW


def test_a_failed_check_fails_its_gate_and_the_whole():
    verdict = complete()
    verdict.record(finding("drift/flips", passed=False))
    assert (verdict.of_gate("drift"), verdict.of_gate("reload"), verdict.overall) == (FAILED, PASSED, FAILED)
    assert colour(verdict) == RED


def test_a_test_that_was_skipped_or_broke_fails_its_gate():
    verdict = complete()
    verdict.record_broken("mlflow", "test_x: skipped")
    assert verdict.overall == FAILED
    said = {gate["gate"]: gate for gate in as_dict(verdict)["gates"]}
    assert said["mlflow"]["broken_tests"] == ["test_x: skipped"]


def test_a_control_that_was_not_tried_is_not_a_pass():
    verdict = complete()
    del verdict.refusals["untrained"]
    assert verdict.overall == INCOMPLETE


@pytest.mark.parametrize(
    "said",
    [
        finding("perplexity/committed", passed=True),
        finding("perplexity/oracle", passed=False, problem="the ratio"),
        finding("perplexity/committed", passed=False, problem="something else"),
    ],
    ids=["accepted", "refused by another check", "refused for another reason"],
)
def test_a_control_must_be_refused_by_the_right_check_for_its_own_fault(said):
    verdict = complete()
    verdict.record_control("untrained", said)
    assert (verdict.of_control("untrained"), verdict.overall) == (FAILED, FAILED)


def test_the_page_beside_the_verdict_says_the_same(tmp_path):
    verdict = complete()
    verdict.record(within("update/weights", error=5.0, bound=2.0, of="3 updates", problem="<b>late</b>"))
    verdict.record_broken("mlflow", "test_x: failed", "GATE mlflow / run: no evidence")
    said = write(verdict, tmp_path)
    page = (tmp_path / "verdict.html").read_text()
    assert said[tmp_path / "verdict.html"] == page
    assert "Failed 2 of 11 gates (update, mlflow): update/weights: &lt;b&gt;late&lt;/b&gt;" in page
    assert "2.5 times what is allowed" in page and "GATE mlflow / run: no evidence" in page
    found = json.loads((tmp_path / "verdict.json").read_bytes())
    gates = {gate["gate"]: gate for gate in found["gates"]}
    (weights,) = [c for c in gates["update"]["checks"] if c["check"] == "weights"]
    assert (weights["share"], weights["problem"], weights["got"]) == (2.5, "<b>late</b>", "error 5")
    assert gates["mlflow"]["broken_because"] == ["GATE mlflow / run: no evidence"]
    (tmp_path / "verdict.html").write_text("<h1>PASSED</h1>")
    assert ["verdict.html" in problem for problem in changed(said)] == [True]


def test_phase_18_has_a_report_and_no_other_level_has(tmp_path):
    """The run, its numbers, and what was not shown; nothing that a subject wrote is read as Markdown or HTML."""
    verdict = complete()
    del verdict.findings["drift/flips"]
    verdict.record(finding("resume/cuts", passed=False, problem="<b>|late|</b>"))
    mlflow = {"uri": "sqlite:///runs/mlflow.db", "run_id": "abc"}
    results = {"ratio": 0.5, "perplexity": {"val": {"ppl": 2.25}}, "mlflow": mlflow}
    formats = {"formats": {"float16": {"relative_error": {"logits": 0.001}}}}
    run = RunData("my_run", results=results, manifest={"run_id": "f00", "seed": "7"}, drift=formats)
    write(verdict, tmp_path, run)
    said = (tmp_path / "PHASE_18_REPORT.md").read_text()
    assert said.startswith("# Phase 18: FAILED")
    for row in (
        *("| ratio | 0.5 |", "| perplexity of val | 2.25 |", "| perplexity of test | not shown |"),
        *("| MLflow URI | sqlite:///runs/mlflow.db |", "| seed | 7 |", "| float16 | logits |"),
        *("| cuts | FAILED | &lt;b>\\|late\\|&lt;/b> |", "- drift/flips: not run"),
    ):
        assert row in said, row
    write(replace(verdict, level=Level.RECORD), tmp_path / "lower", run)
    assert not (tmp_path / "lower" / "PHASE_18_REPORT.md").exists()
    write(verdict, tmp_path)
    assert "- No run was judged." in (tmp_path / "PHASE_18_REPORT.md").read_text()


def test_what_is_not_a_number_has_no_share(tmp_path):
    verdict = complete()
    verdict.record(within("update/weights", error=float("nan"), bound=2.0, of="x", problem="y"))
    verdict.record(within("update/moments", error=1.0, bound=0.0, of="x", problem="y"))
    write(verdict, tmp_path)
    gates = json.loads((tmp_path / "verdict.json").read_bytes(), parse_constant=pytest.fail)["gates"]
    checks = {c["check"]: c for gate in gates if gate["gate"] == "update" for c in gate["checks"]}
    assert "share" not in checks["weights"] and "share" not in checks["moments"]
    assert checks["weights"]["verdict"] == checks["moments"]["verdict"] == FAILED


def test_nothing_at_all_is_incomplete():
    assert Verdict("impl").overall == INCOMPLETE


def test_a_finding_outside_the_definition_is_an_error():
    with pytest.raises(KeyError):
        Verdict("impl").record(finding("perplexity/invented"))


def test_the_table_shows_every_check_and_every_control():
    verdict = complete()
    verdict.notes.append("a note")
    said = text(verdict, 120, verbose=True)
    assert all(f"  {check} " in said for gate in PHASE_18 for check in gate.checks)
    assert all(f"  {control.name} " in said for control in controls())
    assert "a note" in said
    assert max(map(len, said.splitlines())) <= 120


def test_files_are_written_whole_and_replace_the_verdict_before(tmp_path):
    write(complete(), tmp_path)
    broken = complete()
    broken.record(finding("reload/name", passed=False, problem="the name"))
    write(broken, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("PHASE_18_REPORT.md", "badge.json", "badge.svg", "verdict.html", "verdict.json")
    ]
    said = json.loads((tmp_path / "verdict.json").read_bytes())
    assert said["verdict"] == FAILED
    message = next(g for g in said["gates"] if g["gate"] == "reload")["checks"][1]["message"]
    rule = RULES["CKPT-02"]
    expected = (
        f"GATE reload / name: the name; got 3, expected 2; {rule.id}: {rule.statement} ({rule.address})"
    )
    assert message == expected
    assert json.loads((tmp_path / "badge.json").read_bytes()) == {
        "schemaVersion": 1,
        "label": "honestloop",
        "message": f"failed 1 of {len(PHASE_18)} gates",
        "color": RED,
    }
    assert f"failed 1 of {len(PHASE_18)} gates" in str(
        ElementTree.fromstring((tmp_path / "badge.svg").read_text())[0].text
    )


def test_the_badge_of_another_subject_names_it():
    assert badge(Verdict("impl"))["label"] == "honestloop"
    assert badge(Verdict("their_loop"))["label"] == "honestloop: their_loop"


def test_at_most_measures_the_margin_and_does_not_pass_nan():
    good = at_most("perplexity/committed", figure=0.6, limit=0.7, problem="x")
    assert good.passed
    assert (good.threshold, good.margin) == ("<= 0.7", "+0.1")
    assert not at_most("perplexity/committed", figure=float("nan"), limit=0.7, problem="x").passed


def test_within_needs_the_error_inside_the_bound():
    assert within("drift/errors", error=1e-16, bound=1e-15, of="", problem="").margin == "10x inside"
    assert not within("drift/errors", error=2e-15, bound=1e-15, of="", problem="").passed
    assert not within("drift/errors", error=float("nan"), bound=1e-15, of="", problem="").passed


def test_no_problems_says_how_much_was_looked_at():
    assert no_problems("reload/name", [], of="3 files").figure == "3 files: 0 wrong"


def test_gate_of_other_files_is_none():
    assert gate_of(str(Path("tests/test_gates_verdict.py"))) is None


def declared(*rules: str) -> Verdict:
    """A complete verdict in which the checks of UPDATE-04 failed, on a subject that declares these rules."""
    verdict = complete()
    verdict.expected = dict.fromkeys(rules, "on purpose")
    verdict.record(finding("update/schedule", passed=False, problem="lr"))
    return verdict


def test_an_expected_failure_passes_and_is_shown_everywhere():
    verdict = declared("UPDATE-04")
    assert (verdict.overall, verdict.of_check("update/schedule")) == (PASSED, EXPECTED)
    assert "EXPECTED FAILURE UPDATE-04: " in text(verdict, 110, verbose=False)
    assert summary(verdict).endswith("gates, 1 expected failure at level 4, phase 18")
    assert badge(verdict)["message"] == "passed 11 of 11 gates, 1 expected failure"
    assert colour(verdict) == OLIVE
    assert as_dict(verdict)["expected_failures"] == {"UPDATE-04": "on purpose"}


def test_a_failure_that_is_not_declared_fails_beside_one_that_is():
    verdict = declared("UPDATE-04")
    verdict.record(finding("update/weights", passed=False))
    assert verdict.overall == FAILED
    assert colour(verdict) == RED


def test_an_expected_failure_that_holds_fails_the_verdict():
    verdict = declared("UPDATE-04", "RESUME-03")
    assert verdict.overall == FAILED
    assert "FAILED RESUME-03 holds, though it is declared not to (on purpose)" in text(
        verdict, 110, verbose=False
    )
    assert as_dict(verdict)["expected_and_held"] == {"RESUME-03": "on purpose"}


def test_a_declared_rule_of_which_nothing_ran_is_no_pass():
    verdict = declared("UPDATE-04")
    del verdict.findings["update/schedule"]
    assert verdict.overall == INCOMPLETE


@pytest.mark.parametrize("level", [level for level in Level if level < Level.PHASE_18])
def test_a_verdict_names_its_level_and_what_was_not_offered(level):
    verdict = complete(level=level)
    verdict.not_handed_over = {"resume": "that it resumes"}
    assert verdict.overall == PASSED
    assert re.search(rf"impl PASSED .* at level {int(level)}, {level}$", summary(verdict))
    assert "not offered: resume, so unproved: that it resumes" in text(verdict, 120, verbose=False)
    assert as_dict(verdict)["level"] == {"number": int(level), "name": str(level)}
    assert as_dict(verdict)["not_offered"] == {"resume": "that it resumes"}
    assert badge(verdict)["message"].startswith(f"level {int(level)}: ")


def test_the_properties_are_asked_where_there_is_an_adapter_and_only_there():
    asked, unasked = complete(), complete(adapter=False)
    assert {g.name for g in asked.gates} - {g.name for g in unasked.gates} == {"properties"}
    del asked.findings["properties/adapter"]
    assert (asked.overall, unasked.overall) == (INCOMPLETE, PASSED)


def test_a_declared_command_that_no_gate_asked_is_incomplete():
    verdict = complete(level=Level.MODEL)
    verdict.unjudged = ("masks",)
    assert (verdict.overall, colour(verdict)) == (INCOMPLETE, YELLOW)
    assert "NOT RUN: the subject declares a command `masks`" in text(verdict, 120, verbose=False)


def test_a_check_with_nothing_to_look_at_is_no_pass_and_is_said_to_be_unproved():
    verdict = complete()
    where = "whole_run/micro_batches"
    verdict.record(
        nothing_to_judge(where, missing="every update is of one batch", unproved="that parts add up")
    )
    assert (verdict.of_check(where), verdict.overall) == (NOT_OFFERED, PASSED)
    gate = next(g for g in verdict.gates if g.name == "whole_run")
    asked = len(gate.checks) - 1
    said = text(verdict, 140, verbose=False)
    assert f"{asked} of {asked} checks" in said
    assert f"not offered: {where} (every update is of one batch), so unproved: that parts add up" in said
    assert as_dict(verdict)["not_offered"][f"{where} (every update is of one batch)"] == "that parts add up"
    verdict.expected = {"AUDIT-05": "no parts"}
    assert not verdict.unfulfilled


def test_a_gate_that_was_not_asked_is_one_line_and_no_pass():
    verdict = complete(level=Level.RECORD)
    for where in [where for where in verdict.findings if where.startswith("record/")]:
        del verdict.findings[where]
    verdict.unasked = frozenset({"record"})
    assert verdict.overall == INCOMPLETE
    said = text(verdict, 140, verbose=True)
    assert "NOT RUN: record, which were not asked" in said
    assert "second_moment" not in said
    assert "honestloop: impl INCOMPLETE, 1 of 3 gates not run (record)" in summary(verdict)


@pytest.mark.parametrize("width", [60, 80, 110, 200])
@pytest.mark.parametrize("verbose", [False, True])
def test_the_verdict_is_as_wide_as_the_terminal(width, verbose):
    verdict = complete(all_controls=False)
    verdict.record(finding("update/weights", passed=False, problem="wrong by " + "a long way " * 30))
    verdict.notes.append("a note of " + "many words " * 30)
    said = text(verdict, width, verbose=verbose)
    assert max(map(len, said.splitlines())) <= width
    assert "+1" in said or not verbose or width < 110


def test_without_v_there_is_a_row_a_gate_and_one_for_what_failed():
    verdict = complete(all_controls=False)
    verdict.record(finding("update/weights", passed=False, problem="the weights"))
    del verdict.refusals[verdict.controls[0].name]
    said = text(verdict, 80, verbose=False)
    assert all(gate.title in said for gate in PHASE_18)
    assert re.search(r"  weights +FAILED +the weights; got 3, expected 2", said)
    assert "schedule" not in said
    assert f"NOT RUN: the control {verdict.controls[0].name} of " in said


def test_the_last_line_names_the_subject_the_reason_and_the_page():
    verdict = complete()
    assert summary(verdict, "runs/verdict.html") == (
        f"honestloop: impl PASSED {len(PHASE_18)} of {len(PHASE_18)} gates at level 4, phase 18 -> runs/verdict.html"
    )
    for where in ("update/weights", "update/schedule", "drift/flips", "reload/name"):
        verdict.record(finding(where, passed=False))
    failed = summary(verdict)
    assert failed.startswith(f"honestloop: impl FAILED 3 of {len(PHASE_18)} gates (")
    assert failed.count("/") == 3 and " and 1 more)" in failed
    assert "INCOMPLETE, " in summary(Verdict("impl"))


def test_white_letters_can_be_read_on_every_badge():
    for colour in (GREEN, OLIVE, RED, YELLOW):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        luminance = sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
        assert 1.05 / (luminance + 0.05) >= 4.5, colour
