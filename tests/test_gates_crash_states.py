"""A script that is killed at every file event is given its word: PASS, or what is wrong with it."""

import random
from collections import Counter
from pathlib import Path

import pytest

from gates.judge import crash_states, interruption
from gates.judge.crash_states import Word
from gates.subject.crash_runs import FEWEST, MOST, affordable, choose, crash_everywhere, first_events
from gates.subject.file_events import Event
from gates.subject.saves import Save, completed, family, lasting, read_families, saves
from gates.subject.snapshots import Snapshots
from gates.subject.traced_runs import Traced
from tests.scripts import changed, places_of

IN_PLACE = ('partial = Path(str(path) + ".partial")', "partial = path")
NONE = ('        sys.exit("there is no checkpoint")', "        return 0, 0.0, rng.getstate()")
LAST = "    state = json.loads(saved[-1].read_text())\n"
ANYTHING = (
    LAST,
    "    try:\n        state = json.loads(saved[-1].read_text())\n"
    "    except ValueError:\n        return 0, 0.0, rng.getstate()\n",
)
REMOVE_FIRST = (
    '    path = out / f"step-{step}.json"\n',
    '    for old in out.glob("step-*.json"): old.unlink()\n    path = out / f"step-{step}.json"\n',
)
POINTER = (
    '    path = out / f"step-{step}.json"\n',
    '    write(out / "latest", str(out / f"step-{step}.json"))\n    path = out / f"step-{step}.json"\n',
)
FOLLOWED = ("saved[-1].read_text()", 'Path((out / "latest").read_text()).read_text()')
ONE_NAME = ('f"step-{step}.json"', '"state.json"')
ONE_FOUND = ('out.glob("step-*.json")', 'out.glob("state.json")')
FOLDER = (
    "    write(path, json.dumps(",
    '    folder = out / "new"\n    shutil.rmtree(folder, ignore_errors=True)\n    folder.mkdir()\n'
    '    final, path = path, folder / "state.json"\n    write(path, json.dumps(',
)
FOLDER_END = ('"rng": rng.getstate()}))', '"rng": rng.getstate()}))\n    folder.rename(final)')
IN_FOLDER = ("saved[-1].read_text()", '(saved[-1] / "state.json").read_text()')
TABLE = (
    "    if step % every == 0 or step == stop_after or stop:",
    '    (out / "table.json").write_text(json.dumps([value] * step))\n'
    "    if step % every == 0 or step == stop_after or stop:",
)
READS_TABLE = (
    "    step, value, state = load()",
    '    (out / "table.json").read_text()\n    step, value, state = load()',
)
HONEST = {
    "as it is": [],
    "one name for all": [ONE_NAME, ONE_FOUND],
    "a folder a checkpoint": [FOLDER, FOLDER_END, IN_FOLDER],
    "starts over without a checkpoint": [NONE],
    "a table rewritten each step": [TABLE, READS_TABLE],
}
WRONG = {
    "saves in place": ([IN_PLACE], Word.HARD_FAIL, "`resume` refuses"),
    "begins again if a checkpoint is torn": ([IN_PLACE, ANYTHING], Word.LOST_WORK, "it went back further"),
    "one file, in place": ([IN_PLACE, ONE_NAME, ONE_FOUND], Word.HARD_FAIL, "`resume` refuses"),
    "removes the old one first": ([REMOVE_FIRST], Word.HARD_FAIL, "there is no checkpoint"),
    "removes it first, begins again": ([REMOVE_FIRST, NONE], Word.LOST_WORK, "it went back further"),
    "begins again always": (
        [("    step, value, state = load()\n    rng.setstate(state)\n", "")],
        Word.LOST_WORK,
        "expected the",
    ),
    "the one before": ([("saved[-1]", "saved[-2:][0]")], Word.LOST_WORK, "it went back further"),
    "no generator": ([("    rng.setstate(state)\n", "")], Word.SILENT_DIVERGENCE, "log.txt line"),
    "lines of lost steps": ([("keepends=True)[:step]", "keepends=True)")], Word.SILENT_DIVERGENCE, "log.txt"),
    "a pointer to what is not there yet": ([POINTER, FOLLOWED], Word.HARD_FAIL, "No such file"),
    "stops after the first step": (
        [
            (
                "    step, value, state = load()",
                "    step, value, state = load()\n    steps = min(steps, step + 1)",
            )
        ],
        Word.HARD_FAIL,
        "is missing",
    ),
    "a lock that is left": (
        [("out.mkdir(exist_ok=True)", 'out.mkdir(exist_ok=True)\nlock = open(out / "lock", "x")')],
        Word.HARD_FAIL,
        "neither `resume` nor `train` goes on",
    ),
}


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_script_passes_at_every_event(name, tmp_path):
    crashes = crash_everywhere(places_of(tmp_path / "s", changed(*HONEST[name])), every=True)
    assert Counter(interruption.words(crashes)) == {Word.PASS: len(crashes.tried)}
    assert len(crashes.tried) >= 15
    finding = interruption.events(crashes)
    assert finding.passed
    assert f"{len(crashes.tried)} of {len(crashes.tried)} states" in finding.figure


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_script_is_named_by_its_word(name, tmp_path):
    changes, word, says = WRONG[name]
    crashes = crash_everywhere(places_of(tmp_path / "s", changed(*changes)), every=True)
    found = set(interruption.words(crashes))
    assert word in found
    assert found <= {word, Word.PASS} or name in MIXED, found
    finding = interruption.events(crashes)
    told = [crash_states.outcome(crashes, r).told for r in crashes.tried if not passes(crashes, r)]
    assert not finding.passed
    assert any(says in f"{p.what}; got {p.got}, expected {p.expected}" for p in told), told
    assert finding.problem.split(":")[0] in {w.value for w in found}


MIXED = {"a lock that is left", "a pointer to what is not there yet", "stops after the first step"}
"""Mistakes that show in more than one way."""


def passes(crashes, resumed):
    return crash_states.outcome(crashes, resumed).word == Word.PASS


def test_a_drawn_sample_finds_what_is_wrong_around_a_rename(tmp_path):
    """By default some states are tried, the same of the same seed, other ones of another."""
    crashes = crash_everywhere(places_of(tmp_path / "s", changed(IN_PLACE)), every=False)
    assert Word.HARD_FAIL in interruption.words(crashes)


def test_a_script_whose_files_name_its_directory_is_resumed_there(tmp_path):
    """A pointer with an absolute path, written after the checkpoint, is right; a copy would follow it back."""
    after = ('"rng": rng.getstate()}))', '"rng": rng.getstate()}))\n    write(out / "latest", str(path))')
    none = ("    if not saved:", '    if not (out / "latest").exists():')
    places = places_of(tmp_path / "s", changed(after, FOLLOWED, none))
    crashes = crash_everywhere(places, every=True)
    assert places.tied
    assert set(interruption.words(crashes)) == {Word.PASS}


def test_a_resume_that_hangs_is_a_hard_fail(tmp_path):
    hang = ("    step, value, state = load()", "    time.sleep(60)")
    places = places_of(tmp_path / "s", changed(hang), said="[run]\ntimeout = 3.0")
    crashes = crash_everywhere(places, every=False)
    assert Word.HARD_FAIL in interruption.words(crashes)
    finding = interruption.events(crashes)
    assert "`resume` hangs" in finding.problem
    assert finding.got == "it did not end within 3 s"
    assert len(crashes.tried) <= 3  # the others are not waited for


# --- which states ---


def event(kind, path, to="", state=None, size=0):
    return Event(kind, path, to, 0.0, size, state)


def traced(events, last, cpu=1.0, seconds=1.0):
    states = Snapshots(Path("pack"), [], [], [])
    return Traced(Path("run"), 0, "", events, states, last, False, None, 0, seconds, cpu)


def many(saves_made=5, lines=30, cpu=1.0):
    """The events of a run: lines of a log, and after each so many of them a save under a temporary name."""
    events = [event("mkdir", "."), event("create", "log.txt")]
    for save in range(saves_made):
        events += [event("write", "log.txt", size=20) for _ in range(lines)]
        events += [event("create", "tmp"), event("write", "tmp", size=9000), event("torn", "tmp", size=4500)]
        events += [event("fsync", "tmp"), event("rename", "tmp", f"step-{save}.npz"), event("fsync", ".")]
    for number, one in enumerate(events):
        one.state = number - sum(e.kind == "fsync" for e in events[: number + 1])
    return traced(events, len(events), cpu)


def test_the_sample_holds_each_kind_of_event_of_the_last_save_and_both_sides_of_renames():
    whole = many()
    made = saves(whole.events)
    chosen = choose(whole, made, random.Random(3))
    assert len(chosen) == MOST
    assert len(chosen) < len(first_events(whole)) / 2
    assert chosen == choose(whole, made, random.Random(3)) != choose(whole, made, random.Random(4))
    renames = [n for n, e in enumerate(whole.events) if e.kind == "rename"]
    states = {whole.events[n].state for n in chosen if n < len(whole.events)}
    assert sum({whole.events[n].state, whole.events[n + 1].state} <= states for n in renames) >= 3
    inside = [n for n in chosen if renames[-1] - 5 < n <= renames[-1]]
    assert {"create", "torn", "rename"} <= {whole.events[n].kind for n in inside}
    assert len(whole.events) in chosen


@pytest.mark.parametrize("seed", range(5))
def test_of_a_script_that_takes_long_few_states_are_tried_and_those_that_matter(seed):
    whole = many(cpu=30.0)
    chosen = choose(whole, saves(whole.events), random.Random(seed))
    assert len(chosen) == FEWEST
    renames = [n for n, e in enumerate(whole.events) if e.kind == "rename"]
    states = {whole.events[n].state for n in chosen if n < len(whole.events)}
    wanted = [renames[0], renames[-1], renames[-1] + 1, renames[len(renames) // 2]]
    assert {whole.events[n].state for n in wanted} <= states
    assert len(whole.events) in chosen


def test_a_save_of_many_renames_has_a_state_beside_each_however_long_the_script_takes():
    names = [chr(ord("a") + number) for number in range(9)]
    one = [event("mkdir", "new")]
    one += [
        e for n in names for e in (event("create", f"new/{n}.tmp"), event("write", f"new/{n}.tmp", size=9000))
    ]
    one += [event("rename", f"new/{n}.tmp", f"new/{n}") for n in names]
    events = [e for step in (1, 2) for e in (*one, event("rename", "new", f"step-{step}"))]
    events = [Event(e.kind, e.path, e.to, 0.0, e.size, number) for number, e in enumerate(events)]
    whole = traced(events, len(events), cpu=30.0)
    chosen = choose(whole, saves(events), random.Random(1))
    last = [n for n, e in enumerate(events) if e.kind == "rename"][-10:]
    assert all({n, n + 1} & set(chosen) for n in last)
    assert FEWEST < len(chosen) < MOST


@pytest.mark.parametrize(
    ("cpu", "seconds", "states"),
    [(0.2, 0.3, MOST), (2.5, 3.0, 10), (2.5, 9.0, 10), (0.1, 10.0, 10), (60.0, 60.0, FEWEST)],
)
def test_how_many_states_are_tried_is_a_matter_of_processor_time(cpu, seconds, states):
    """It is the traced run that is measured: a busy machine makes it slower, and the sample smaller."""
    assert affordable(traced([], 0, cpu, seconds)) == states


def test_equal_states_are_tried_once():
    events = [event("create", "a", state=0), event("fsync", "a", state=1), event("unlink", "a", state=1)]
    assert first_events(traced(events, 0)) == {0: 0, 1: 1}


# --- saves ---


def test_a_save_is_complete_with_its_last_act():
    events = [
        event("create", "log.txt"),
        event("write", "log.txt", size=1),
        event("mkdir", "new"),
        event("create", "new/a"),
        event("write", "new/a", size=5),
        event("rename", "new", "step-10"),
        event("create", "model-10.bin"),
        event("write", "model-10.bin", size=7),
        event("write", "log.txt", size=1),
        event("create", "model-20.bin"),
        event("write", "model-20.bin", size=7),
    ]
    assert saves(events) == [
        Save("step-#", 3, 5, 5),
        Save("model-#.bin", 6, 7, 7),
        Save("log.txt", 0, 8, 2),
        Save("model-#.bin", 9, 10, 7),
    ]
    assert completed(saves(events), 7) == {"step-#": 1}
    assert completed(saves(events), 8) == {"step-#": 1, "model-#.bin": 1}
    assert lasting(saves(events)) == "model-#.bin"


def test_what_a_killed_run_was_writing_is_not_complete():
    events = [event("create", "a-1"), event("write", "a-1"), event("write", "log"), event("create", "a-2")]
    events += [event("write", "a-2"), event("write", "a-2")]
    assert [(s.family, s.last) for s in saves(events, ended=False)] == [("a-#", 1)]
    assert [(s.family, s.last) for s in saves(events)] == [("a-#", 1), ("a-#", 5)]


def test_families_are_names_without_numbers():
    assert family("checkpoints/step-00000010/weights") == family("checkpoints/step-20/weights")
    assert family("model-3fa9c2d1.bin") == family("model-0011aabb.bin") == "model-#.bin"
    assert family("feedback/decade") == "feedback/decade"
    reads = [event("read", "step-10/weights"), event("read", "log.txt")]
    assert read_families(reads, ["step-#", "step-#.npz", "other"]) == {"step-#"}
