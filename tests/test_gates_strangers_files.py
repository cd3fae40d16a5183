"""Whatever a run left where a gate reads is read soon, or refused in one line that names it."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from fixtures.corpus.files import read_directory
from gates.errors import GateError
from gates.judge import artefacts, drift
from gates.judge.drift import Drift
from gates.judge.run_record import Settings
from gates.judge.scoring import ReferenceScorer
from gates.judge.static_scan import scan
from gates.subject.guarded_copy import DEPTH_LIMIT, copy_tree, same_bytes
from gates.subject.logit_probes import _logits
from gates.subject.process import Finished, Subject
from gates.subject.run_directory import RunDirectory
from gates.subject.source import parse
from gates.subject.unpickling_guard import read_reports
from honestloop.guarded_files import UnreadableError

SOON = 5.0  # seconds of processor time; what waits never ends


def fifo(path: Path) -> None:
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.mkdir()


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def link(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def terabyte(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


def deep(path: Path) -> None:
    path.write_bytes(b"[" * 1_000_000 + b"]" * 1_000_000)


def junk(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 100)


KINDS = [fifo, folder, loop, link, device, terabyte, deep, junk]


def refused(read) -> str:
    """The one line of a refusal that comes soon."""
    began = time.process_time()
    with pytest.raises(GateError) as raised:
        read()
    assert time.process_time() - began < SOON
    assert str(raised.value).isprintable()
    return str(raised.value)


@pytest.fixture
def run(tmp_path):
    (tmp_path / "run").mkdir()
    return RunDirectory(tmp_path / "run")


@pytest.mark.parametrize("make", KINDS)
def test_a_json_file_of_a_run(run, make):
    make(run.path / "results.json")
    assert "run directory: results.json" in refused(lambda: run.json("results.json"))


@pytest.mark.parametrize("make", KINDS)
def test_a_log_is_read_as_lines(run, make):
    make(run.path / "train_log.jsonl")
    assert "run directory: train_log.jsonl" in refused(lambda: run.log)


@pytest.mark.parametrize("make", [fifo, folder, loop, link, device, terabyte])
def test_a_log_that_is_waited_for(run, make):
    make(run.path / "train_log.jsonl")
    assert "run directory: train_log.jsonl: found " in refused(run.logged_steps)


@pytest.mark.parametrize("make", KINDS)
def test_tensors_of_a_run(run, make):
    make(run.path / "w.safetensors")
    assert "run directory: w.safetensors" in refused(lambda: run.tensors("w.safetensors"))


def test_a_header_of_tensors_that_is_nested_deep_or_has_many_dimensions(run):
    for header in (
        b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a": {"dtype": "F32", "shape": [' + b",".join([b"1"] * 100) + b'], "data_offsets": [0, 4]}}',
    ):
        (run.path / "w.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
        refused(lambda: run.tensors("w.safetensors"))


def test_a_link_on_the_way_to_a_file_or_to_the_run_itself(run, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "results.json").write_text("{}")
    (run.path / "drift").symlink_to(elsewhere, target_is_directory=True)
    refused(lambda: run.read("drift/results.json"))
    (tmp_path / "linked").symlink_to(elsewhere, target_is_directory=True)
    refused(lambda: RunDirectory(tmp_path / "linked").read("results.json"))


def test_checkpoints_and_models_in_a_folder_that_is_none(run):
    fifo(run.path / "checkpoints")
    (run.path / "models").symlink_to("/tmp")
    assert "checkpoints: found a FIFO" in refused(run.checkpoints)
    assert "models: found a symbolic link" in refused(lambda: run.model_name)


@pytest.mark.parametrize("make", KINDS)
def test_every_artefact_is_looked_at_soon(run, make):
    (run.path / "a.json").write_text("{}")
    make(run.path / "b.json")
    began = time.process_time()
    finding = artefacts.check(run.path)
    assert time.process_time() - began < SOON
    assert finding.passed == (make is folder)  # an empty folder is no file
    if make is not folder:
        assert "b.json: " in finding.message
        assert finding.message.isprintable()


def test_text_that_is_a_million_instructions_of_an_unpickler(run):
    (run.path / "a.md").write_text("(" * 4_000_000)
    began = time.process_time()
    assert "a pickle" in artefacts.check(run.path).message
    assert time.process_time() - began < SOON


def test_folders_within_folders(run):
    inner = run.path
    for _ in range(DEPTH_LIMIT + 2):
        inner = inner / "d"
    inner.mkdir(parents=True)
    assert "folders more than" in refused(lambda: list(run.files()))


def test_a_name_that_is_no_text_is_said_in_one_line(run):
    os.mkfifo(os.fsencode(run.path) + b"/a\xff\n.json")
    finding = artefacts.check(run.path)
    assert not finding.passed
    assert finding.message.isprintable()


@pytest.mark.parametrize("make", [fifo, loop, link, terabyte])
def test_a_copy_holds_plain_files_alone(run, tmp_path, make):
    (run.path / "checkpoints").mkdir()
    (run.path / "checkpoints" / "a.json").write_text("{}")
    assert run.copy_to(tmp_path / "right").read("checkpoints/a.json") == b"{}"
    make(run.path / "checkpoints" / "b")
    assert "checkpoints/b: found " in refused(lambda: run.copy_to(tmp_path / "wrong"))


class Answers(Subject):
    """A subject whose `logits` verb has been called, and left something."""

    def run(self, *arguments: str | Path) -> Finished:
        return Finished("logits", 0, "", "", 0.0)


@pytest.mark.parametrize("make", KINDS)
def test_the_answer_of_logits(run, tmp_path, make):
    make(tmp_path / "probes-said.safetensors")
    tokens = np.ones((1, 2), np.int64)
    said = refused(lambda: _logits(Answers("theirs", tmp_path), run, "probes", tokens, tokens > 0))
    assert said.startswith("the answer of `logits` cannot be read")


@pytest.mark.parametrize("make", KINDS)
def test_a_plot_and_results_of_drift(run, make):
    (run.path / "drift").mkdir()
    make(run.path / drift.RESULTS)
    rows = read_directory()["train"]
    refused(lambda: drift.errors_agree(run, Drift({}, ReferenceScorer(rows), rows)))


@pytest.mark.parametrize("make", [fifo, folder, loop, terabyte, deep, junk])
def test_a_source_file(tmp_path, make):
    make(tmp_path / "theirs.py")
    assert "theirs.py: " in refused(lambda: scan(tmp_path / "theirs.py"))


def test_a_source_that_is_nested_deep(tmp_path):
    (tmp_path / "theirs.py").write_text("x = " + "+".join(["1"] * 50_000))
    assert "theirs.py: " in refused(lambda: scan(tmp_path / "theirs.py"))
    assert parse(Path(__file__))


@pytest.mark.parametrize("make", [fifo, loop, link, terabyte, deep, junk])
def test_the_report_of_a_guarded_process(tmp_path, make):
    make(tmp_path / "1.json")
    with pytest.raises(UnreadableError, match=r"1\.json: found"):
        read_reports(tmp_path)


@pytest.mark.parametrize("said", ["'\u0663'", "' 3'", "'+3'", "'1_0'"])
def test_a_seed_in_other_digits_is_no_seed(said):
    with pytest.raises(GateError, match=r"config\.toml: .*seed"):
        Settings.read(f"seed = {said}\ndtype = 'float32'\n")


@pytest.mark.parametrize("kind", [fifo, terabyte])
def test_a_copy_of_what_a_stranger_left_is_made_soon_or_refused_in_one_line(kind, tmp_path):
    run = tmp_path / "run"
    (run / "a").mkdir(parents=True)
    (run / "a" / "weights").write_bytes(b"w" * 3000)
    (run / "latest").symlink_to("a")
    (run / "gone").symlink_to("/dev/zero")
    os.utime(run / "a" / "weights", ns=(5, 7))
    copied = copy_tree(run, tmp_path / "copy", lambda path: path.name != "gone")
    assert sorted(p.name for p in copied.rglob("*")) == ["a", "latest", "weights"]
    assert os.readlink(copied / "latest") == "a"
    assert (copied / "a" / "weights").stat().st_mtime_ns == 7
    assert same_bytes(copied / "a" / "weights", run / "a" / "weights")
    (copied / "a" / "weights").write_bytes(b"w" * 2999 + b"x")
    assert not same_bytes(copied / "a" / "weights", run / "a" / "weights")
    kind(run / "a" / "bad")
    message = refused(lambda: copy_tree(run, tmp_path / "wrong"))
    assert message.startswith("run directory: a/bad: found ")
