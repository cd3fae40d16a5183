"""The open half of the published faults as changes of one PyTorch loop: all there, each fits, none that is held out."""

import ast
import math
import sys

import pytest

from benchmarks import external_peers
from benchmarks.peers_external.checks import PEERS, loop_in
from benchmarks.peers_external.faults import CHANGES, NOT_HERE, with_fault
from fixtures.external import EXTERNAL


def in_folder(folder, id):
    """The loop with a fault, written to a folder and imported."""
    (folder / "plain_loop.py").write_text(with_fault(id), encoding="utf-8")
    loop = loop_in(folder)
    sys.modules.pop("plain_loop")
    return loop


def test_every_open_fault_is_a_change_or_says_why_not():
    assert CHANGES.keys() | NOT_HERE.keys() == {id for id, fault in EXTERNAL.items() if not fault.held_out}
    assert not CHANGES.keys() & NOT_HERE.keys()


@pytest.mark.parametrize("id", CHANGES)
def test_each_change_fits_once_and_is_python(id):
    assert ast.dump(ast.parse(with_fault(id))) != ast.dump(ast.parse(with_fault(None)))


def test_a_change_that_does_not_fit_is_refused(monkeypatch):
    monkeypatch.setitem(CHANGES, "DC-TCL", (("no such text", ""),))
    with pytest.raises(ValueError, match="DC-TCL: 'no such text' stands there 0 times"):
        with_fault("DC-TCL")


def test_the_right_loop_learns_and_resumes(tmp_path):
    loop = in_folder(tmp_path, None)
    records = loop.train(loop.build(3), 40, 3)
    assert records[-1]["loss"] < records[0]["loss"]
    cut = loop.build(3)
    loop.train(cut, 20, 3)
    loop.save(cut, tmp_path / "checkpoint")
    resumed = loop.build(4)
    loop.load(resumed, tmp_path / "checkpoint")
    assert loop.train(resumed, 40, 3)[-1]["loss"] == records[-1]["loss"]


def test_a_check_that_objects_to_the_right_loop_is_not_counted(monkeypatch):
    monkeypatch.setitem(
        PEERS, "made up", {"always": lambda loop, folder: "no", "long": lambda loop, folder: None}
    )
    found = external_peers.graded(["DC-TCL"], "made up")
    assert found == {"right loop": {"always": "no"}, "faults": {"DC-TCL": {}}}


def test_a_check_that_objects_to_a_fault_alone_notices_it(monkeypatch):
    def sum_of_means(loop, folder):
        records = loop.train(loop.build(3), 1, 3)
        return None if records[0]["loss"] < 1.5 * math.log(loop.VOCAB) else "twice the loss"

    monkeypatch.setitem(PEERS, "made up", {"loss": sum_of_means})
    found = external_peers.graded(["TP-A1", "DC-TCL"], "made up")
    assert found["faults"] == {"TP-A1": {"loss": "twice the loss"}, "DC-TCL": {}}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["NO-1"], "NO-1: no fault of the open half"),
        (["TCB-MPS"], "needs a device"),
        (["--peer", "none"], "no such peer"),
    ],
)
def test_a_wrong_command_line_is_one_line(arguments, said, capsys):
    with pytest.raises(SystemExit) as ended:
        external_peers.main(arguments)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
