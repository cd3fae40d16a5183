"""The suite's own code: a property that proves nothing is caught, and a subject that misbehaves is one clear line."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st

from honestloop.conventions import Conventions
from honestloop.guard import Misbehaviour
from honestloop.protocol import FUNCTIONS, ProtocolError, Subject
from properties.assertions import Refusal, holds, spare
from properties.checks import all_properties, checks, named_functions, property_of
from properties.property_record import Record, recording
from properties.strength import judge, summary
from reference.rules import RULES, load

ROOT = Path(__file__).parents[1]


def run_and_settle(test, **arguments):
    """A property, as pytest runs it."""
    prop = property_of(test)
    assert prop is not None
    with recording(Record()) as record:
        test(**arguments)
        prop.settle(record)
    return record


# ---- a property that proves nothing


def test_a_floor_of_zero_is_refused():
    with pytest.raises(ValueError, match="floor of 0 examples proves nothing"):
        checks("LOSS-01", floor=0)


def test_a_property_without_a_rule_of_the_table_is_refused():
    with pytest.raises(ValueError, match="needs rules of the table; got none"):
        checks()
    with pytest.raises(ValueError, match=r"got \['LOSS-99'\]"):
        checks("LOSS-99")


def test_a_property_that_asserts_nothing_fails():
    @checks("LOSS-01", x=st.integers())
    def empty(subject, x):
        pass

    subject = Subject.of("nothing", {}, Conventions())
    with pytest.raises(Refusal, match="checked in 0 examples"):
        run_and_settle(empty, subject=subject)


def test_a_rule_that_does_not_speak_of_the_subject_is_spared_and_the_others_are_not():
    @checks("LOSS-01", "LOSS-02")
    def half(subject, asserted):
        spare("LOSS-02")
        if asserted:
            holds("LOSS-01", True, "")

    subject = Subject.of("nothing", {}, Conventions())
    assert run_and_settle(half, subject=subject, asserted=True).executed == {"LOSS-01": 1}
    with pytest.raises(Refusal, match="checked in 0 examples"):
        run_and_settle(half, subject=subject, asserted=False)


def test_a_property_whose_examples_are_all_rejected_fails():
    @checks("LOSS-01", floor=10, x=st.integers())
    def choosy(subject, x):
        if x == 0:
            holds("LOSS-01", True, "")

    with pytest.raises(Refusal, match="checked in 1 examples, 10 are required"):
        run_and_settle(
            settings(max_examples=20, database=None)(choosy), subject=Subject.of("x", {}, Conventions())
        )


def test_a_property_that_asserts_a_rule_it_does_not_name_is_an_error():
    @checks("LOSS-01")
    def other(subject):
        holds("LOSS-02", True, "")

    with pytest.raises(TypeError, match="asserts \\['LOSS-02'\\], which @checks does not name"):
        other(subject=Subject.of("x", {}, Conventions()))


def test_every_rule_of_a_property_has_a_floor_of_its_own():
    @checks("LOSS-01", "LOSS-02")
    def half(subject):
        holds("LOSS-01", True, "")

    with pytest.raises(Refusal, match=r"LOSS-02[\s\S]*checked in 0 examples"):
        run_and_settle(half, subject=Subject.of("x", {}, Conventions()))


def test_every_property_is_made_by_checks_and_compares_nothing_by_guess():
    """No test of the folder escapes counting, and none has a tolerance of its own."""
    known = all_properties()
    for path in sorted((ROOT / "properties").glob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        for guess in ("allclose", "isclose", "approx", "rtol", "atol", "assert_almost_equal"):
            assert guess not in text, f"{path.name} uses {guess}"
        for line in text.splitlines():
            if line.startswith("def test_"):
                name = line.removeprefix("def ").partition("(")[0]
                assert f"{path.name}::{name}" in known, f"{path.name}::{name} is no property"


def test_every_property_names_the_functions_it_grades():
    for test, prop in all_properties().items():
        assert prop.functions or "name" in dict(prop.cases().__next__()), f"{test} grades no function"


# ---- the table of rules


def test_an_id_given_twice_is_refused(tmp_path):
    rule = 'statement = "s"\nwhy = "w"\nsource = "o"\nhint = "h"\n'
    (tmp_path / "rules.toml").write_text(f"[LOSS-01]\n{rule}[LOSS-01]\n{rule}")
    with pytest.raises(ValueError, match="LOSS-01"):
        load(tmp_path / "rules.toml")


def test_a_rule_needs_only_rules_that_are_graded_before_it():
    """Families run in the order of the table, files within them as they are; only then can a broken rule block."""
    families = list(dict.fromkeys(rule.family for rule in RULES.values()))
    tests = sorted(all_properties().values(), key=lambda prop: families.index(RULES[prop.rules[0]].family))
    first = {rule: place for place, prop in reversed(list(enumerate(tests))) for rule in prop.rules}
    for rule in RULES.values():
        for needed in rule.needs:
            assert needed in RULES, f"{rule.id} needs {needed}, which is no rule"
            if rule.id in first:
                assert first[needed] <= first[rule.id], f"{rule.id} runs before {needed}, which it needs"


# ---- a subject that misbehaves


def reversed_in_place(x):
    x[:] = x[::-1]
    return x.copy()


def noisy(x):
    print("loss is going down")
    return x.copy()


def endless(x):
    while True:
        pass


@pytest.mark.parametrize(
    ("function", "rule", "found"),
    [
        (reversed_in_place, "SUBJ-02", "gelu changed its argument 0"),
        (lambda x: x.astype(np.float32), "SUBJ-01", "gelu returned float32 for float64"),
        (lambda x: x / 0 if x.any() else [][1], "SUBJ-05", "gelu raised IndexError: list index out of range"),
    ],
)
def test_what_a_call_does_besides_returning_is_noticed(function, rule, found):
    subject = Subject.of("theirs", {"gelu": function}, Conventions())
    with pytest.raises(Misbehaviour) as caught:
        subject.gelu(np.arange(3.0) if rule != "SUBJ-05" else np.zeros(3))
    assert caught.value.rule == rule
    assert str(caught.value).startswith(f"{rule}: {found}")


def test_a_call_that_does_not_return_is_stopped_and_not_made_again():
    subject = Subject.of("theirs", {"gelu": endless}, Conventions())
    subject.guard.time_limit = 0.2
    for _ in range(2):
        with pytest.raises(Misbehaviour, match=r"SUBJ-07: gelu did not return within 0\.2 s"):
            subject.gelu(np.zeros(3))


def test_a_call_that_keeps_all_other_threads_waiting_is_stopped_too():
    """A regular expression holds the interpreter's lock to its end; a signal of the kernel interrupts it."""
    subject = Subject.of("theirs", {"gelu": lambda x: re.match(r"(a+)+$", "a" * 60 + "b")}, Conventions())
    subject.guard.time_limit = 0.2
    with pytest.raises(Misbehaviour, match="SUBJ-07: gelu did not return"):
        subject.gelu(np.zeros(3))


@pytest.mark.parametrize(
    ("name", "now"), [("w", None), ("w", [1.0]), ("lr", np.zeros(2))], ids=["none", "list", "array"]
)
def test_an_item_that_is_replaced_in_an_argument_is_noticed(name, now):
    def replaces(state):
        state[name] = now

    subject = Subject.of("theirs", {"adamw_step": replaces}, Conventions())
    with pytest.raises(Misbehaviour, match="SUBJ-02: adamw_step changed its argument 0"):
        subject.adamw_step({"w": np.ones(2), "lr": 0.1})


def test_what_is_printed_is_caught(capsys):
    subject = Subject.of("theirs", {"gelu": noisy}, Conventions())
    subject.gelu(np.zeros(3))
    assert subject.guard.printed == {"gelu": "loss is going down\n"}
    assert capsys.readouterr().out == ""


def test_a_capability_that_is_no_function_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "claims_much.py").write_text('CAPABILITIES = ["gelu", "telepathy"]\n')
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ProtocolError, match=r"CAPABILITIES names \['telepathy'\]"):
        Subject("claims_much").offered  # noqa: B018


ADAPTER = """
import numpy as np
from fixtures.subjects import reference as right
CAPABILITIES = ["gelu", "gelu_backward", "softmax", "matmul", "perplexity", "silu", "rope"]
matmul, gelu_backward = right.matmul, right.gelu_backward
def gelu(x):
    x *= 1.0
    x[...] = x + 1.0
    return right.gelu(x)
def softmax(x):
    raise NotImplementedError("later")
def silu(x):
    return (x / (1.0 + np.exp(-x))).astype(np.float64)
def rope(x, base):
    print("rope!")
    return right.rope(x, base)
def perplexity(nll_sum, tokens):
    while True: pass
"""


def test_each_misbehaviour_is_a_line_and_the_rest_is_graded(tmp_path):
    """The whole command: a missing function is not offered, a broken one blocks what rests on it, others pass."""
    (tmp_path / "unruly.py").write_text(ADAPTER)
    command = [sys.executable, "-m", "pytest", "properties/", "--impl", "unruly", "--time-limit", "2"]
    done = subprocess.run(
        [*command, "-q"],
        cwd=ROOT,
        env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 1, done.stdout
    for line in (
        "gelu changed its argument 0",
        "softmax raised NotImplementedError: later",
        "silu returned float64 for float32",
        "rope printed: rope!",
        "perplexity did not return within 2 s",
        "blocked by SUBJ-02 (gelu)",
        "blocked by SUBJ-05 (softmax)",
        "blocked by SUBJ-06 (rope)",
        "; cross_entropy;",
    ):
        assert line in done.stdout, f"{line!r} is not in\n{done.stdout}"
    assert "test_entries_are_dot_products" not in done.stdout  # it passed
    assert "Traceback" not in done.stdout


# ---- mutants


def test_a_mutant_equal_to_the_original_survives(monkeypatch):
    from fixtures.mutants import MUTANTS
    from fixtures.mutants.table import Mutant
    from reference import activation

    same = Mutant("act_right", "gelu", activation.gelu, "nothing at all", ("ACT-01",))
    monkeypatch.setitem(MUTANTS, same.id, same)
    result = judge(same, same.rules, diagnosed=False)
    assert not result.killed
    assert summary([result])["survivors"] == {"act_right": ["ACT-01"]}


def test_a_mutant_without_a_rule_or_with_a_taken_name_is_refused():
    from fixtures.mutants import MUTANTS, mutant

    taken = next(iter(MUTANTS.values()))
    with pytest.raises(ValueError, match="no rule refuses it"):
        mutant("gelu", mistake="none")(lambda x: x)
    with pytest.raises(ValueError, match="the name is taken"):
        mutant(taken.function, *taken.rules, mistake="again")(taken.written)


def test_functions_are_found_in_helpers_too():
    def helper(subject):
        return subject.rope

    def test_uses_helper(subject):
        return subject.gelu

    assert named_functions(test_uses_helper) == {"gelu"}
    assert named_functions(helper) == {"rope"}
    assert "rope" in FUNCTIONS


def test_asserted_rules_are_forgotten_between_examples():
    @checks("LOSS-02")
    def one(subject):
        holds("LOSS-02", True, "")

    with recording(Record()) as record:
        record.asserted.add("LOSS-01")
        one(subject=Subject.of("x", {}, Conventions()))
    assert record.asserted == {"LOSS-02"}
