"""The judged run of level 2 and its audit: updates made again, mistakes that begin late, and one whole grading."""

import json
import os
import random
from dataclasses import replace
from typing import Any

import pytest

from gates.errors import GateError
from gates.judge import made_again, optimizer_audit
from gates.judge.audited_update import audit
from gates.judge.declared_optimizer import DeclaredOptimizer
from gates.judge.recorded_update import updates_of
from gates.subject import audit_draw
from gates.subject.offers import left_out, not_offered
from gates.subject.recorded_runs import MadeAgain, again, cut, special_updates, train_judged, train_stepwise
from gates.subject.session import Session
from tests.graded_examples import grade, refusals
from tests.recorded_in_process import DESCRIPTION, SUBJECT, InProcess

STEPS = 40
LATE = {
    # mistake -> (check, words)
    "decay doubled": ("late", "declared 0.1 (behaves like: weight decay applied twice)"),
    "biases decay": ("late", "weight decay of everything, biases and norms too"),
    "no clipping": ("late", "no clipping, or clipping after the update"),
    "another beta2": ("late", "v does not follow from the gradient in m"),
    "rate before": ("late", "the rate of the update before"),
    "a tensor stays": ("late", "b.bias does not move"),
    "skips": ("late", "nothing changed, and the log does not say skipped"),
    "m through fp16": ("own_line", "made again"),
}


def audited(subject, seed=1, kept=None):
    """(check -> finding, updates drawn) of the audit of a judged run, or of one that was kept."""
    run = kept or subject.recorded()
    saved, special = list(run.checkpoints()), special_updates(run)
    drawn = audit_draw.draw(random.Random(seed), STEPS, saved, special)
    since = {update: audit_draw.checkpoint_before(update, saved) for update in drawn}
    runs: dict[int, Any] = {}
    for checkpoint in sorted(set(since.values())):
        these = [update for update in drawn if since[update] == checkpoint]
        runs |= dict.fromkeys(these, again(subject, run, checkpoint, these))
    made = MadeAgain(drawn, special, runs, since)
    spec = DeclaredOptimizer.read(DESCRIPTION, run.config, STEPS)
    late = optimizer_audit.late(made_again.audited_again(spec, made), "")
    return {"own_line": made_again.own_line(run, made), "late": late}, made


@pytest.mark.parametrize("seed", range(4))
def test_a_correct_run_is_accepted(tmp_path, seed):
    found, made = audited(InProcess(tmp_path), seed)
    for finding in found.values():
        assert finding.passed, finding.message
    assert {4, 37, 40} <= set(made.drawn)  # the end of the warm-up, the first of the last epoch, the last
    assert len(made.drawn) >= 5


@pytest.mark.parametrize("mistake", LATE)
@pytest.mark.parametrize("since", [12, 27, 36])
def test_a_mistake_that_begins_late_and_lasts_is_refused(tmp_path, mistake, since):
    check, says = LATE[mistake]
    found, _ = audited(InProcess(tmp_path, mistake, since), seed=since)
    assert not found[check].passed
    assert says in found[check].message


@pytest.mark.parametrize(("since", "until"), [(15, 15), (11, 20), (23, 28)])
def test_a_mistake_that_passes_is_seen_as_often_as_the_formula_says(tmp_path, since, until):
    """Within four standard deviations, over twenty draws of the audit of one kept run."""
    kept = InProcess(tmp_path, "decay doubled", since, until).recorded("kept")
    mistaken = range(since, until + 1)
    seen = 0
    for seed in range(20):
        found, made = audited(InProcess(tmp_path / str(seed), "decay doubled", since, until), seed, kept)
        assert found["late"].passed != any(update in mistaken for update in made.drawn)
        assert found["own_line"].passed
        seen += not found["late"].passed
    p = audit_draw.chance_of_seeing(mistaken, STEPS, (10, 20, 30, 40), (4, 37, 40))
    assert abs(seen - 20 * p) <= 4 * (20 * p * (1 - p)) ** 0.5 + 1e-9


def test_a_line_that_is_not_remade_is_refused(tmp_path):
    """The loss in the log is a mean, which is restored; then another one, which is not."""
    run = InProcess(tmp_path).recorded()
    lines = [json.loads(line) for line in run.log_lines]
    lines[36]["loss"] += 1e-9
    (run.path / "train_log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    subject: Any = InProcess(tmp_path)
    changed = type(run)(run.path, run.layout)
    made = MadeAgain([38], [], {38: again(subject, changed, 30, [38])}, {38: 30})
    found = made_again.own_line(changed, made)
    assert "update 37 made again: loss is not that of the run's own line; got" in found.message
    free = type(run)(run.path, type(run.layout)(may_differ=("train_log.jsonl:loss",)))
    assert made_again.own_line(free, made).passed


def test_a_run_is_cut_back_to_what_it_was(tmp_path):
    run = InProcess(tmp_path).recorded()
    written = max(f.stat().st_mtime_ns for f in run.checkpoints()[20].iterdir())
    for name, when in {"tokenizer.json": written - 10, "results.json": written + 10}.items():
        (run.path / name).write_text("{}")
        os.utime(run.path / name, ns=(when, when))
    (run.path / "newest").symlink_to("checkpoints/step-00000040")
    (run.path / "first").symlink_to("checkpoints/step-00000010")
    os.mkfifo(run.path / "pipe")
    cut(run, 20, tmp_path / "cut")
    names = {str(path.relative_to(tmp_path / "cut")) for path in (tmp_path / "cut").iterdir()}
    assert names == {"manifest.json", "train_log.jsonl", "tokenizer.json", "checkpoints", "first"}
    assert list(type(run)(tmp_path / "cut").checkpoints()) == [10, 20]
    assert (tmp_path / "cut/train_log.jsonl").read_bytes() == b"".join(x + b"\n" for x in run.log_lines[:20])
    with pytest.raises(GateError, match="there is no checkpoint of step 15"):
        cut(run, 15, tmp_path / "other")


def test_updates_before_the_first_checkpoint_are_made_from_the_beginning(tmp_path):
    subject: Any = InProcess(tmp_path)
    run = subject.recorded()
    found = again(subject, run, 0, [3, 7])
    assert list(found.checkpoints()) == [2, 3, 6, 7]
    assert found.log == run.log[:7]


@pytest.mark.parametrize("missing", ["resume", "{stop_after}"])
def test_of_a_subject_that_cannot_be_resumed_the_updates_that_are_there_are_judged(tmp_path, missing):
    commands = dict(DESCRIPTION.commands)
    if missing == "resume":
        del commands["resume"]
    else:
        commands = {
            verb: command.replace("--stop-after {stop_after}", "") for verb, command in commands.items()
        }
    bare = replace(DESCRIPTION, commands=commands)
    assert {"record/own_line", "record/late"} <= left_out(bare)
    assert not left_out(DESCRIPTION)
    assert "resume with {stop_after}" in not_offered(bare, None)
    session = Session(bare, tmp_path, 1, 1, committed={})
    judged = train_judged(session)
    short: Any = train_stepwise(session)
    assert not judged.again.drawn
    spec = DeclaredOptimizer.read(bare, judged.run.config, STEPS)
    found = [audit(spec, update) for update in updates_of(short)]
    assert len(found) >= 10
    for check in optimizer_audit.CHECKS.values():
        finding = check(found)
        assert finding.passed, finding.message


def test_the_short_run_saves_every_update(tmp_path):
    run: Any = train_stepwise(Session(DESCRIPTION, tmp_path, 1, 1, committed={}))
    assert list(run.checkpoints()) == list(range(1, 15))
    assert [update.name for update in updates_of(run)][:2] == ["update 2", "update 3"]
    commands = {v: c.replace("{checkpoint_every}", "10") for v, c in DESCRIPTION.commands.items()}
    bare = type(DESCRIPTION)("bare", DESCRIPTION.level, DESCRIPTION.folder, commands=commands)
    assert train_stepwise(Session(bare, tmp_path / "bare", 1, 1, committed={})) is None


def described(folder, options=""):
    """A subject whose commands have more options."""
    folder.mkdir()
    text = (SUBJECT / "subject.toml").read_text().replace("train.py", f"{SUBJECT / 'train.py'}")
    (folder / "subject.toml").write_text(text.replace('{stop_after}"', f'{{stop_after}} {options}"'))
    return folder


@pytest.mark.parametrize(
    ("options", "refused"),
    [
        ("", {}),
        ("--mistake biases-decay --since 17", {"record/late": "biases and norms too"}),
        ("--mistake ppl-of-base-2 --since 31", {"record/log": "step 31: ppl is not exp(loss)"}),
    ],
    ids=["correct", "biases decay", "ppl of base 2"],
)
def test_a_grading_at_level_record(tmp_path, options, refused):
    status, verdict, printed = grade(described(tmp_path / "subject", options), tmp_path / "runs")
    said = refusals(verdict)
    assert said.keys() == refused.keys(), printed
    for check, words in refused.items():
        assert words in said[check]
    assert (status == 0) is not bool(refused)
