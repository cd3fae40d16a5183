"""`honestloop.check()`: the same result as under pytest, as an object and as text, and nothing left behind."""

import subprocess
import sys
import threading
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

import honestloop
from fixtures.subjects import reference as right
from honestloop.conventions import Conventions
from honestloop.guard import Misbehaviour
from honestloop.protocol import ProtocolError, Subject
from properties.grading import Status

ROOT = Path(__file__).parents[1]
SMALL = {"perplexity": right.perplexity, "gelu": right.functions(Conventions())["gelu"]}


def without_exp(nll_sum, tokens):
    return nll_sum / tokens


def test_what_holds_is_true_and_counted():
    report = honestloop.check(SMALL, rules=["PPL", "ACT-01"])
    assert report
    assert report.status == 0
    assert report.rules == {"ACT-01": Status.HOLDS, "PPL-01": Status.HOLDS}
    assert str(report).splitlines()[-1] == "honestloop: dict: 2 rules hold, 0 are broken; 0 not offered"


def test_what_is_broken_is_said_in_the_grammar_with_a_diagnosis():
    report = honestloop.check(SMALL | {"perplexity": without_exp}, rules="PPL")
    assert not report
    assert (report.status, list(report.broken)) == (1, ["PPL-01"])
    message = str(report)
    assert message.startswith("PPL-01  perplexity is exp of")
    assert "(mutant ppl_without_exp)" in message
    assert 'reproduce: honestloop.check(..., rules="PPL-01")' in message


def test_pytest_does_not_show(capfd):
    honestloop.check(SMALL | {"perplexity": without_exp}, rules="PPL")
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")


def test_nothing_offered_is_nothing_graded():
    report = honestloop.check({}, rules="PPL")
    assert not report
    assert report.status == 3
    assert "nothing was graded" in str(report)
    assert report.not_offered == ["perplexity"]


class Adapter:
    """As somebody writes it in a notebook."""

    CONVENTIONS: ClassVar = {"gelu": "tanh"}
    CAPABILITIES = ("gelu",)
    gelu = staticmethod(right.functions(Conventions(gelu="tanh"))["gelu"])


def test_an_object_with_conventions_is_a_subject():
    assert honestloop.check(Adapter, rules="ACT-01")
    assert honestloop.check(Adapter(), rules="ACT-01").subject == "Adapter"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"rules": ["LOPP-01"]}, "unknown rule 'LOPP-01'; did you mean"),
        ({"profile": "quick"}, "unknown profile 'quick'; there are dev, ci, few, nightly"),
        ({"expected": {"LOOP-99": "why not"}}, "EXPECTED names 'LOOP-99', which is no rule"),
        ({"expected": {"PPL-01": " "}}, r"EXPECTED\['PPL-01'\] needs a reason"),
    ],
)
def test_wrong_arguments_are_one_line(arguments, said):
    with pytest.raises(ValueError, match=said) as caught:
        honestloop.check(SMALL, **arguments)
    assert "\n" not in str(caught.value)


def test_a_subject_that_is_not_there_is_one_line():
    with pytest.raises(
        ProtocolError, match="subject no_such_module: cannot be imported: ModuleNotFoundError"
    ):
        honestloop.check("no_such_module")


def test_two_gradings_at_once_do_not_mix():
    """Each has its own record: a broken subject in another thread, and one inside a callback, change nothing here."""
    inner, found = [], {}

    def other():
        found["report"] = honestloop.check({"perplexity": without_exp}, rules="PPL")

    thread = threading.Thread(target=other)

    def on_result(result):
        inner.append(honestloop.check({"perplexity": without_exp}, rules="PPL").status)

    thread.start()
    report = honestloop.check(SMALL, rules=["PPL", "ACT-01"], on_result=on_result)
    thread.join()
    assert report.status == 0
    assert found["report"].status == 1
    assert set(inner) == {1}


def test_a_call_that_does_not_return_is_stopped_in_any_thread():
    """Where no signal can interrupt it, the monitor raises in the thread that made the call."""
    found = []

    def endless(x):
        while True:
            pass

    def call():
        subject = Subject({"gelu": endless}, time_limit=0.2)
        try:
            subject.gelu(np.zeros(2))
        except Misbehaviour as error:
            found.append(str(error))

    thread = threading.Thread(target=call)
    thread.start()
    thread.join(20)
    assert found == ["SUBJ-07: gelu did not return within 0.2 s"]


@pytest.mark.parametrize("leaving", ["sys.exit()", "pytest.skip('later')", "raise BaseException('odd')"])
def test_a_function_that_leaves_by_another_door_has_raised(leaving, tmp_path, monkeypatch):
    name = f"leaves_{abs(hash(leaving))}"
    (tmp_path / f"{name}.py").write_text(
        f"import pytest, sys\nCAPABILITIES = ['perplexity']\ndef perplexity(nll_sum, tokens):\n    {leaving}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    report = honestloop.check(name, rules="PPL")
    assert list(report.broken) == ["SUBJ-05"]


# ---- expected failures


def test_an_expected_failure_is_shown_and_is_no_failure():
    report = honestloop.check({"perplexity": without_exp}, rules="PPL", expected={"PPL-01": "on purpose"})
    assert report.status == 0
    assert report.expected == {"PPL-01": "on purpose"}
    assert "PPL-01 is broken as declared: on purpose: 3 tests" in str(report)
    assert report.last_line.endswith("0 rules hold, 0 are broken, 1 is broken as declared; 0 not offered")


def test_an_expected_failure_that_holds_is_an_error():
    report = honestloop.check(SMALL, rules="PPL", expected={"PPL-01": "on purpose"})
    assert report.status == 1
    assert "PPL-01  holds, though EXPECTED declares that it does not (on purpose): remove it" in str(report)


def test_an_expected_failure_that_nothing_graded_is_an_error_of_a_whole_check():
    declares = dict(SMALL, EXPECTED={"LOOP-02": "logs the last micro-batch"})
    assert honestloop.check(declares, rules="PPL").status == 0
    whole = honestloop.check(declares)
    assert whole.status == 1
    assert "LOOP-02  is declared in EXPECTED and was not graded" in str(whole)


def test_what_rests_on_an_expected_failure_is_blocked_by_it_and_the_rest_is_graded(tmp_path, monkeypatch):
    """A loop that logs another loss on purpose: the rules that compare whole records say that they could not."""
    (tmp_path / "logs_last.py").write_text(
        "from honestloop.templates.loop.adapter import *\n"
        "from honestloop.templates.loop import adapter\n"
        "CAPABILITIES = ['trainer']\n"
        "EXPECTED = {'LOOP-02': 'logs half, on purpose'}\n"
        "class Half(adapter.Trainer):\n"
        "    def __init__(self, params, **settings):\n"
        "        super().__init__(params, **settings)\n"
        "        train = self.train\n"
        "        self.train = lambda b, n: [r | {'loss': r['loss'] / 2} for r in train(b, n)]\n"
        "adapter.Trainer = Half\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    command = [sys.executable, "-m", "honestloop", "check", "logs_last", "-r", "LOOP"]
    done = subprocess.run(
        command, env={"PYTHONPATH": f"{ROOT}:{tmp_path}"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "LOOP-02 is broken as declared: logs half, on purpose" in done.stdout
    assert "blocked by LOOP-02, an expected failure" in done.stdout
    assert "0 are broken, 1 is broken as declared" in done.stdout
