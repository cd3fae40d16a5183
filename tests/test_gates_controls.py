"""The table of controls: read without running them, each of them usable, and with the mutants complete."""

import ast
import subprocess
import sys
import tomllib

import pytest

from fixtures.controls.shared.table import ControlError, read_all
from fixtures.mutants import MUTANTS
from gates.subject.controls import RUNS
from gates.verdict.definition import GATES, controls, rule_of
from honestloop.suite_location import ROOT
from reference.rules import RULES

GOOD = '"""What is wrong."""\n\nCONTROL = Control(gate="update", check="log", because="b")\n'
PROVED_BY = {
    # A mutant that hangs would cost its time limit in every example of every property.
    "SUBJ-07": (
        "tests/test_properties_checks.py::test_a_call_that_does_not_return_is_stopped_and_not_made_again",
        "tests/test_properties_checks.py::test_a_call_that_keeps_all_other_threads_waiting_is_stopped_too",
    ),
    # A gate of a stranger's loop refuses wrong copies of strangers' loops, not of ours.
    "CKPT-08": ("tests/test_gates_interruption.py::test_a_pickle_is_found_under_any_name",),
    "CRASH-01": (
        "tests/test_gates_interruption.py::test_the_right_example_holds_and_the_rule_refuses_the_wrong_one",
    ),
    "CRASH-02": ("tests/test_gates_interruption.py::test_a_run_that_ignores_sigterm_is_refused",),
    "DECL-01": (
        "tests/test_gates_declared.py::test_rows_that_are_no_shuffles_are_refused",
        "tests/test_gates_declared.py::test_rows_must_be_a_function_of_the_seed",
    ),
    "DECL-02": (
        "tests/test_gates_declared.py::test_masks_that_are_no_independent_draws_are_refused",
        "tests/test_gates_declared.py::test_masks_must_be_those_of_the_seed",
    ),
    "DIR-01": ("tests/test_honestloop_check_run.py::test_a_wrong_field_is_one_line",),
    "DIR-02": ("tests/test_honestloop_check_run.py::test_a_wrong_line_is_one_line",),
    "DIR-03": ("tests/test_honestloop_check_run.py::test_a_wrong_line_is_one_line",),
    "DIR-04": ("tests/test_honestloop_check_run.py::test_what_is_damaged_is_named",),
    "DIR-05": ("tests/test_honestloop_check_run.py::test_what_is_damaged_is_named",),
    **dict.fromkeys(
        (f"OWN-0{n}" for n in range(1, 10)),
        (
            "tests/test_examples_level3.py::test_a_mistake_is_refused_by_its_check_in_its_words",
            "tests/test_examples_level3.py::test_every_check_of_the_gate_has_a_mistake_that_it_refuses",
        ),
    ),
    **dict.fromkeys(
        ("RECORD-01", "RECORD-02", "RECORD-03", "RECORD-12", "RECORD-13"),
        ("tests/test_gates_recorded_log.py::test_a_number_that_does_not_follow_is_refused",),
    ),
    **dict.fromkeys(
        (f"RECORD-{n:02}" for n in range(4, 12)),
        ("tests/test_gates_optimizer_audit.py::test_every_mistake_is_refused_by_its_check_with_its_name",),
    ),
    "RECORD-14": ("tests/test_gates_recorded_runs.py::test_a_line_that_is_not_remade_is_refused",),
    "RECORD-15": ("tests/test_gates_recorded_runs.py::test_a_mistake_that_begins_late_and_lasts_is_refused",),
}


def test_reading_the_table_runs_no_control():
    program = (
        "import sys; from gates.verdict.definition import controls; "
        "assert len(controls()) > 80; print([m for m in sys.modules if m.split('.')[0] == 'impl'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_control_is_what_its_file_says(tmp_path):
    text = GOOD.replace(")", ', bugs=(1, 2), always=True, run="follow", replayed=(2,))')
    (tmp_path / "some_name.py").write_text(f"{text}\nimport nowhere_at_all\n", encoding="utf-8")
    (tmp_path / "__init__.py").write_text("", encoding="utf-8")
    (found,) = read_all(tmp_path)
    assert (found.name, found.wrong, found.gate) == ("some_name", "What is wrong", "update")
    assert (found.bugs, found.always, found.run, found.replayed) == ((1, 2), True, "follow", (2,))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "expected one CONTROL = Control(...)"),
        (GOOD * 2, "expected one CONTROL = Control(...)"),
        ("CONTROL = None\n", "expected one CONTROL = Control(...)"),
        ('CONTROL = Control("update")\n', "CONTROL must be Control(...) with keywords alone"),
        (GOOD.replace('"b"', "words()"), "because=words() is not a literal"),
        (GOOD.replace('"b"', '"b", **more'), "CONTROL must be Control(...) with keywords alone"),
        (GOOD.replace('"b"', '"b", bug=3'), "got an unexpected keyword argument 'bug'"),
        (GOOD.replace(', because="b"', ""), "missing 1 required keyword-only argument: 'because'"),
        (GOOD.replace('"b"', '"b", bugs=(3)'), "bugs=3 is not a tuple"),
        (GOOD.replace('"b"', '"b", bugs=("3",)'), "bugs=('3',) is not a tuple of whole numbers"),
        (GOOD.replace('"b"', "3"), "because=3 is not a str"),
        ("CONTROL = Control(\n", "cannot be parsed"),
        (GOOD.replace("What is wrong.", ""), "its first line says what is wrong"),
        (GOOD.replace('"b"', '"b", wrong="a"'), "its first line says what is wrong"),
    ],
)
def test_a_control_that_cannot_be_used_is_one_line_that_names_its_file(tmp_path, text, says):
    (tmp_path / "some_name.py").write_text(text, encoding="utf-8")
    with pytest.raises(ControlError) as found:
        read_all(tmp_path)
    assert str(found.value).startswith(f"{tmp_path / 'some_name.py'}: ")
    assert says in str(found.value)
    assert "\n" not in str(found.value)


def test_every_control_is_run_in_a_way_that_there_is():
    for control in controls():
        assert control.run in RUNS
        assert bool(control.replayed) == (control.check in ("log", "moments", "weights"))
        assert len(control.begins) in (0, 2)


def test_controls_come_in_the_order_of_the_checks():
    order = [(gate.name, check) for gate in GATES for check in gate.checks]
    places = [(order.index((c.gate, c.check)), c.name) for c in controls()]
    assert places == sorted(places)


def test_every_rule_has_a_mutant_or_a_control_or_a_test_that_there_is():
    judged = {rule for mutant in MUTANTS.values() for rule in mutant.rules}
    judged |= {str(rule_of(f"{c.gate}/{c.check}")) for c in controls()}
    assert RULES.keys() - judged == PROVED_BY.keys()
    for name in (name for names in PROVED_BY.values() for name in names):
        assert is_a_test(name), name


def is_a_test(name: str) -> bool:
    """Whether "tests/file.py::function" is there."""
    file, _, function = name.partition("::")
    body = ast.parse((ROOT / file).read_bytes()).body
    return any(isinstance(node, ast.FunctionDef) and node.name == function for node in body)


def test_every_test_that_the_catalogue_names_is_there():
    text = (ROOT / "fixtures" / "mutants" / "catalogue.toml").read_text(encoding="utf-8")
    named = [name for row in tomllib.loads(text).values() for name in row.get("tests", ())]
    assert named
    assert all(map(is_a_test, named))
