"""The gate of scripts that are interrupted: each check accepts what is right and says what is wrong."""

import bz2
import gzip
import io
import json
import lzma
import pickle  # noqa: TID251 - to be found
import random
import signal
import zipfile

import numpy as np
import pytest
import torch

from gates.errors import GateError
from gates.judge import interruption, pickles, same_run
from gates.subject import tensors
from gates.subject.crash_runs import SHARES, crash, crash_everywhere, draw
from gates.subject.file_events import Event
from gates.subject.interruptions import repeat, stop
from gates.subject.offers import not_offered, unasked
from gates.subject.run_places import names_path, share_equal_files
from gates.verdict.definition import BELOW_PHASE_18, GATES
from gates.verdict.outcome import Verdict
from honestloop.description import Level, describe
from reference.rules import RULES
from tests.scripts import changed, places_of, session_of

SLOW = 0.05
"""Seconds of each step, so that a signal finds the script at work."""
TERM, KILL = signal.SIGTERM, signal.SIGKILL


def terminate(places):
    return interruption.terminate(crash(places, TERM, "terminate"))


def kill(places):
    return interruption.kill(crash(places, KILL, "kill-early", "kill-late"))


# --- the checks ---


def test_the_same_run_twice_is_accepted(tmp_path):
    finding = interruption.rerun(repeat(places_of(tmp_path / "s", changed())))
    assert finding.passed
    assert finding.figure.startswith("3 files, ")


def test_a_run_seeded_by_the_time_is_refused(tmp_path):
    random_seed = ("random.Random(1)", "random.Random()")
    finding = interruption.rerun(repeat(places_of(tmp_path / "s", changed(random_seed))))
    assert not finding.passed
    assert finding.problem.startswith(
        "nondeterminism, not a resume bug: the same run twice differs: log.txt line 1"
    )
    assert "RESUME-01" in finding.message


def test_a_file_more_is_a_difference_of_two_equal_runs(tmp_path):
    more = ("out.mkdir(exist_ok=True)", "out.mkdir(exist_ok=True)\n(out / str(time.time_ns())).touch()")
    finding = interruption.rerun(repeat(places_of(tmp_path / "s", changed(more))))
    assert "is missing" in finding.problem or "second time alone" in finding.problem


def test_what_is_declared_to_differ_may_and_is_shown(tmp_path):
    stamp = (
        "out.mkdir(exist_ok=True)",
        'out.mkdir(exist_ok=True)\n(out / "t.json").write_text(str(time.time_ns()))',
    )
    places = places_of(tmp_path / "s", changed(stamp))
    assert not interruption.rerun(repeat(places)).passed
    places = places_of(tmp_path / "t", changed(stamp))
    finding = interruption.rerun(repeat(places), ("t.json", "nothing.png"))
    assert finding.passed
    assert finding.figure.endswith("declared to differ: t.json: 0 differ")


def test_a_run_of_which_everything_is_declared_to_differ_is_not_judged(tmp_path):
    finding = interruption.rerun(repeat(places_of(tmp_path / "s", changed())), ("*",))
    assert (finding.passed, finding.problem) == (False, "nothing was compared")


def test_a_stopped_run_is_accepted_with_the_checkpoints_of_its_stops(tmp_path):
    stopped = stop(places_of(tmp_path / "s", changed(), said="[run]\nsteps = 4"))
    finding = interruption.stop(stopped)
    assert finding.passed
    assert len(stopped.stops) == 2 and "files more" in finding.figure


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (("min(steps, stop_after)", "steps"), "it trained to the end"),
        (("    rng.setstate(state)\n", ""), "then resumed: log.txt line"),
        (
            ("    step, value, state = load()", "    step, value, state = load()\n    steps = step"),
            "is missing",
        ),
    ],
)
def test_a_run_that_does_not_stop_or_does_not_go_on_is_refused(tmp_path, wrong, says):
    finding = interruption.stop(stop(places_of(tmp_path / "s", changed(wrong), said="[run]\nsteps = 4")))
    assert not finding.passed
    assert says in finding.problem + finding.message


HANDLER = "lambda number, frame: stop.append(number)"


@pytest.mark.parametrize("handler", [HANDLER, "signal.SIG_DFL"])
def test_a_run_that_sigterm_ends_is_accepted(tmp_path, handler):
    """With a handler that saves, or without one: what counts is what is resumed."""
    finding = terminate(places_of(tmp_path / "s", changed((HANDLER, handler), pause=SLOW)))
    assert finding.passed, finding.message


def test_a_run_that_ignores_sigterm_is_refused(tmp_path):
    finding = terminate(places_of(tmp_path / "s", changed((HANDLER, "signal.SIG_IGN"), pause=SLOW)))
    assert "it went on to its end" in finding.problem
    assert "CRASH-02" in finding.message


def test_a_checkpoint_that_sigterm_adds_is_no_lost_work(tmp_path):
    """The saves that were complete when the signal came are counted, not the one that the handler makes."""
    places = places_of(tmp_path / "s", changed(pause=SLOW))
    for seed in range(3):
        places.session.kill_seed = seed
        finding = interruption.terminate(crash(places, TERM, "terminate"))
        assert finding.passed, finding.message
        (places.found("terminate-0").parent).rename(places.found(f"kept-{seed}").parent)


def test_killed_runs_are_accepted_or_named(tmp_path):
    assert kill(places_of(tmp_path / "s", changed(pause=SLOW))).passed
    wrong = changed(("    rng.setstate(state)\n", ""), pause=SLOW)
    finding = kill(places_of(tmp_path / "wrong", wrong))
    assert finding.problem.startswith("SILENT_DIVERGENCE: SIGKILL after ")


def test_a_run_that_always_ends_before_the_signal_is_no_evidence(tmp_path, monkeypatch):
    monkeypatch.setitem(SHARES, "kill-late", (40.0, 50.0))
    with pytest.raises(GateError, match="5 times the run had ended before SIGKILL was sent"):
        crash(places_of(tmp_path / "s", changed()), KILL, "kill-late")


def test_moments_are_drawn_from_the_seed_and_fall_into_their_window():
    events = [Event("write", "log", seconds=2.0 + number / 10) for number in range(101)]
    for window, (low, high) in SHARES.items():
        moments = [draw(events, random.Random(seed), window, KILL) for seed in range(50)]
        at = [events[m.events - 1].seconds + m.delay for m in moments]
        assert min(at) >= 2 + 10 * low and max(at) <= 2 + 10 * high
        assert len(set(at)) == 50
        assert draw(events, random.Random(7), window, KILL) == moments[7]


def test_a_run_that_fails_by_itself_is_no_evidence(tmp_path):
    places = places_of(tmp_path / "s", "raise SystemExit('no such corpus')")
    with pytest.raises(GateError, match=r"script.py \{out\} .* ended with status 1: no such corpus"):
        _ = places.whole
    places = places_of(tmp_path / "t", "")
    with pytest.raises(GateError, match="left no files"):
        _ = places.whole


# --- which checks are asked ---


def test_what_is_not_offered_is_not_asked_and_is_said(tmp_path):
    session = session_of(tmp_path / "s", changed(), stop=False)
    assert unasked(session.description) == {"interruption/stop"}
    assert "{stop_after}" in not_offered(session.description, None)
    alone = session_of(tmp_path / "t", changed())
    (tmp_path / "t" / "subject.toml").write_text('train = "{python} script.py {out}"')
    alone.description = describe(str(tmp_path / "t"))
    left = unasked(alone.description)
    assert left == {f"interruption/{check}" for check in ("stop", "terminate", "kill", "events")}
    verdict = Verdict("s", level=Level.COMMAND, adapter=False, unasked=left)
    assert [list(g.checks) for g in verdict.gates] == [["rerun", "pickle"]]


def test_every_check_of_the_gate_has_a_rule():
    gate = next(g for g in GATES if g.name == "interruption")
    assert list(gate.checks) == ["rerun", "stop", "terminate", "kill", "events", "pickle"]
    assert set(gate.checks.values()) <= RULES.keys()
    assert gate.levels == BELOW_PHASE_18


# --- the examples of the rules ---

PLACES = """
import json, os, signal, sys, time
import numpy as np
from pathlib import Path
out, resume = Path(sys.argv[1]), "resume" in sys.argv

def replace(path, put):
    with open(f"{path}.partial", "wb") as file:
        put(file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(f"{path}.partial", path)

def write(file, state):
    np.savez(file, **state)

def save(path, state):
    replace(path, lambda file: write(file, state))

def handle(stop):
    signal.signal(signal.SIGTERM, lambda number, frame: stop.append(number))

$example
out.mkdir(exist_ok=True)
step, value, saved, stop = 0, 1.0, sorted(out.glob("step-*.npz")), []
if resume:
    with np.load(saved[-1]) as file:
        step, value = int(file["step"]), float(file["value"])
handle(stop)
while step < 4 and not stop:
    time.sleep(0.05)
    step, value = step + 1, np.sin(value)
    save(out / f"step-{step}.npz", {"step": step, "value": value})
"""


def verdicts(folder, text):
    """Each check of the gate on a script with an example in its place."""
    places = places_of(folder, PLACES.replace("$example", text), stop=False)
    found = [interruption.pickle(places.whole.run), interruption.rerun(repeat(places))]
    if all(finding.passed for finding in found):
        found += [terminate(places), interruption.events(crash_all(places))]
    return found


def crash_all(places):
    return crash_everywhere(places, every=False)


@pytest.mark.parametrize("name", [r.id for r in RULES.values() if r.function.startswith("script.")])
def test_the_right_example_holds_and_the_rule_refuses_the_wrong_one(name, tmp_path):
    rule = RULES[name]
    assert f"def {rule.function.removeprefix('script.')}(" in rule.wrong
    right = verdicts(tmp_path / "right", rule.right)
    assert [finding.message for finding in right if not finding.passed] == []
    wrong = [f.message for f in verdicts(tmp_path / "wrong", rule.wrong) if not f.passed]
    assert wrong and all(f"; {name}: " in message for message in wrong)


# --- two directories ---


def folder(path, **files):
    path.mkdir()
    for name, data in files.items():
        (path / name.replace("__", ".")).write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def npz(**arrays):
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


A, B = np.arange(6, dtype="f4").reshape(2, 3), np.array([1, 2, 3, 4, 5, 7], dtype="f4").reshape(2, 3)
DIFFERENCES = {
    "log__jsonl": (
        '{"step": 1, "loss": 0.5}\n{"a": 1}\n',
        '{"step": 1, "loss": 0.25}\n{"a": 1}\n',
        "log.jsonl line 1 field loss",
        "0.25",
        "0.5",
    ),
    "s__json": ('{"a": {"b": [1, 2]}}', '{"a": {"b": [1, 3]}}', "s.json field a.b[1]", "3", "2"),
    "t__json": ('{"a": 1}', '{"a": 1.0}', "t.json field a", "1.0", "1"),
    "u__json": ('{"a": 1}', '{"a":1}', "u.json: how it is written", "other bytes", "equal bytes"),
    "w__safetensors": (
        tensors.write({"x": A}),
        tensors.write({"x": B}),
        "w.safetensors tensor x[0, 0]",
        "1.0",
        "0.0",
    ),
    "c__npz": (npz(x=A), npz(x=A[:1]), "c.npz member x.npy", "float32 [1, 3]", "float32 [2, 3]"),
    "d__npz": (npz(x=A), npz(x=np.where(A == 4, 9, A)), "d.npz member x.npy[1, 1]", "9.0", "4.0"),
    "notes__txt": ("one\ntwo\n", "one\n", "notes.txt line 2", "the end", "two"),
    "raw__bin": (b"\xff\x00\x01", b"\xff\x00\x02", "raw.bin byte 2", "02", "01"),
    "torn__json": ("{", "[", "torn.json line 1", "[", "{"),
}


@pytest.mark.parametrize("name", DIFFERENCES)
def test_the_first_difference_is_named_in_the_words_of_its_format(name, tmp_path):
    old, new, what, got, expected = DIFFERENCES[name]
    one, other = folder(tmp_path / "a", **{name: old}), folder(tmp_path / "b", **{name: new})
    compared = same_run.compare(one, other)
    assert [(p.what, p.got, p.expected) for p in compared.different] == [(what, got, expected)]
    assert same_run.compare(one, folder(tmp_path / "c", **{name: old})).problems == []


def test_a_checkpoint_of_torch_names_the_member_that_differs(tmp_path):
    for name, value in (("a", 1.0), ("b", 2.0), ("c", 1.0)):
        (tmp_path / name).mkdir()
        torch.save({"w": torch.full((2,), value)}, tmp_path / name / "model.pt")
    assert "member model/data/0 byte 2" in same_run.compare(tmp_path / "a", tmp_path / "b").problems[0].what
    assert same_run.compare(tmp_path / "a", tmp_path / "c").problems == []


def test_missing_files_and_more_files_are_told_apart(tmp_path):
    compared = same_run.compare(folder(tmp_path / "a", x="1", y="1"), folder(tmp_path / "b", y="1", z="1"))
    assert (compared.missing, compared.more, compared.files) == (["x"], ["z"], 1)
    assert [p.what for p in compared.problems] == ["x is missing"]


def test_fields_that_may_differ_are_left_out_wherever_they_are(tmp_path):
    lines = [
        "".join(json.dumps({"step": step, "seconds": when + step}) + "\n" for step in (1, 2))
        for when in (1, 3)
    ]
    manifests = [json.dumps({"a": {"when": when}, "runs": [{"id": when}], "x": 1}) for when in (1, 2)]
    one = folder(tmp_path / "a", log__jsonl=lines[0], manifest__json=manifests[0])
    other = folder(tmp_path / "b", log__jsonl=lines[1], manifest__json=manifests[1])
    declared = ("log.jsonl:seconds", "manifest.json:a.when", "*.json:runs.id", "manifest.json:nowhere")
    compared = same_run.compare(one, other, declared)
    assert compared.problems == []
    assert "log.jsonl:seconds" in compared.summary
    assert len(same_run.compare(one, other, declared[:1]).problems) == 1
    (other / "log.jsonl").write_text(lines[1].replace('"step": 2', '"step": 3'))
    assert same_run.compare(one, other, declared).problems[0].what == "log.jsonl line 2 field step"


def test_links_are_compared_by_where_they_lead_and_never_followed(tmp_path):
    for name, target in (("a", "x"), ("b", "y"), ("c", "x")):
        folder(tmp_path / name)
        (tmp_path / name / "latest").symlink_to(target)
    assert same_run.compare(tmp_path / "a", tmp_path / "c").problems == []
    assert same_run.compare(tmp_path / "a", tmp_path / "b").problems[0].what == "latest: where the link leads"
    (tmp_path / "b" / "latest").unlink()
    (tmp_path / "b" / "latest").write_text("x")
    assert same_run.compare(tmp_path / "a", tmp_path / "b").problems[0].what == "latest: what it is"


def test_a_path_is_found_in_files_and_links(tmp_path):
    run, path = folder(tmp_path / "run", a="nothing"), tmp_path / "wörk" / "run"
    assert not names_path(run, path)
    for content in (f"latest = {path}/step-1", json.dumps({"out": str(path)})):
        (run / "b").write_text(content, encoding="utf-8")
        assert names_path(run, path)
    (run / "b").write_bytes(b"x" * ((1 << 20) - 5) + str(path).encode())
    assert names_path(run, path)
    (run / "b").unlink()
    (run / "l").symlink_to(path / "step-1")
    assert names_path(run, path)


def test_equal_files_of_many_runs_are_kept_once(tmp_path):
    one, other = folder(tmp_path / "a", x="1", y="2"), folder(tmp_path / "b", x="1", y="3")
    share_equal_files(other, one)
    assert (other / "x").stat().st_ino == (one / "x").stat().st_ino
    assert ((other / "y").read_text(), sorted(p.name for p in other.iterdir())) == ("3", ["x", "y"])


# --- pickles ---


def zipped(**members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return stream.getvalue()


def saved(save, *arguments):
    stream = io.BytesIO()
    save(*arguments, stream)
    return stream.getvalue()


STATE = {"weights": [1.0, 2.0], "step": 3}
OBJECTS = npz(x=np.array([{"a": 1}], dtype=object))
PICKLES = {f"protocol {n}": pickle.dumps(STATE, n) for n in range(6)} | {
    "torch.save": saved(torch.save, STATE),
    "objects in an npz": OBJECTS,
    "zip in a zip": zipped(inner=zipped(data=pickle.dumps(STATE))),
    "gzip": gzip.compress(pickle.dumps(STATE)),
    "bzip2": bz2.compress(pickle.dumps(STATE)),
    "xz": lzma.compress(pickle.dumps(STATE)),
}
NO_PICKLES = {
    "empty": b"",
    "a number": b"0.693\n0.51\n",
    "one number": b"1.",
    "text": b"(see below).",
    "csv": b"step,loss\n1,0.5\n",
    "json": json.dumps(STATE).encode(),
    "json list": b"[1, 2]",
    "safetensors": tensors.write({"x": A}),
    "npz": npz(x=A, y=np.array("text")),
    "gzip": gzip.compress(b"text"),
    "a torn zip": zipped(a=b"1")[:30],
    "binary": b"\x80\x04" + bytes(range(200, 256)),
    "png": b"\x89PNG\r\n\x1a\n" + b"\0" * 40,
}


@pytest.mark.parametrize("name", PICKLES)
def test_a_pickle_is_found_under_any_name(name, tmp_path):
    finding = interruption.pickle(folder(tmp_path / "run", model__bin=PICKLES[name], log__txt="1"))
    assert not finding.passed
    assert finding.problem.startswith("model.bin: is ")
    assert "CKPT-08" in finding.message


@pytest.mark.parametrize("name", NO_PICKLES)
def test_what_is_no_pickle_is_not_taken_for_one(name):
    assert pickles.pickle_in(NO_PICKLES[name]) is None


def test_a_run_that_leaves_nothing_is_refused(tmp_path):
    assert not interruption.pickle(folder(tmp_path / "run")).passed
