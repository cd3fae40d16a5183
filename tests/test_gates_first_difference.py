"""Where two runs first differ: the step, the machine that is to blame, the tensor, the index, the ulps."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gates.errors import GateError
from gates.judge import first_difference, resume
from gates.subject import interrupted_runs, tensors
from gates.subject.interrupted_runs import Interrupted
from gates.subject.run_directory import RunDirectory

STEPS, RESUMED_AT = 6, 3
MACHINES = {
    "optimizer": {"t": 6},
    "scheduler": {"step": 6},
    "data": {"epoch": 0, "position": 192},
    "control": {"step": 6},
}


def content() -> dict[str, Any]:
    """A small finished run, as Python values that a test may change before it is written."""
    log = [
        {"step": s, "epoch": 0, "loss": 4.0 / s, "lr": s * 0.25, "grad_norm": 1.5, "tokens": 90}
        for s in range(1, STEPS + 1)
    ]
    weights = {"E": np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)}
    moments = {"m.E": np.ones((2, 3), np.float32), "v.E": np.ones((2, 3), np.float32)}
    return {"log": log, "weights": weights, "moments": moments, "machines": copy.deepcopy(MACHINES)}


@pytest.fixture(autouse=True)
def _one_parameter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_difference, "SHAPES", {"E": (2, 3)})


def write(home: Path, run: dict[str, Any], step: int = STEPS) -> RunDirectory:
    folder = home / "checkpoints" / f"step-{step:08d}"
    folder.mkdir(parents=True)
    (home / "train_log.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in run["log"]), encoding="utf-8"
    )
    (folder / "weights.safetensors").write_bytes(tensors.write(run["weights"]))
    (folder / "optimizer.safetensors").write_bytes(tensors.write(run["moments"]))
    (folder / "state.json").write_text(
        json.dumps({"step": step, "machines": run["machines"]}), encoding="utf-8"
    )
    return RunDirectory(home)


def between(tmp_path: Path, changed: dict[str, Any], **options: Any) -> first_difference.Difference | None:
    expected, got = write(tmp_path / "a", content()), write(tmp_path / "b", changed)
    return first_difference.between(expected, got, resumed_at=RESUMED_AT, **options)


def change_losses(run: dict[str, Any], first: int) -> None:
    for line in run["log"][first - 1 :]:
        line["loss"] *= 1.5


def test_equal_runs_do_not_differ(tmp_path):
    a, b = write(tmp_path / "a", content()), write(tmp_path / "b", content())
    assert first_difference.between(a, b) is None
    finding = resume.identical("resume/rerun", a, b, story="")
    assert finding.passed
    assert finding.figure.startswith(f"{first_difference.compared_bytes(a, b):,} bytes")


@pytest.mark.parametrize(
    ("status", "says"), [(0, ""), (-15, "SIGTERM at line 3: the status it ended with; got -15")]
)
def test_a_run_that_died_of_its_signal_is_refused_though_it_was_resumed_right(tmp_path, status, says):
    a, b = write(tmp_path / "a", content()), write(tmp_path / "b", content())
    finding = resume.resumed("terminate", a, Interrupted(b, [(3, [3])], "SIGTERM at line 3", status))
    assert finding.passed == (status == 0)
    assert says in finding.message


@pytest.mark.parametrize("stood", [[(4, [4])], [(3, [])], [(3, [2])]])
def test_a_run_that_did_not_stop_when_told_is_found(tmp_path, stood):
    run = RunDirectory(tmp_path)
    assert resume.stops_when_told(Interrupted(run, [(3, [3])], ""), (3,)).passed
    assert "--stop-after 3" in resume.stops_when_told(Interrupted(run, stood, ""), (3,)).message


def nothing_at_all(run: dict[str, Any]) -> None:
    run["moments"] = {}


def no_machines(run: dict[str, Any]) -> None:
    run["machines"] = {}


def an_empty_machine(run: dict[str, Any]) -> None:
    run["machines"]["control"] = {}


def one_moment_lost(run: dict[str, Any]) -> None:
    del run["moments"]["v.E"]


def a_moment_of_another_shape(run: dict[str, Any]) -> None:
    run["moments"]["m.E"] = np.ones(6, np.float32)


def moments_of_zero(run: dict[str, Any]) -> None:
    run["moments"]["m.E"] = np.zeros((2, 3), np.float32)


def no_weights(run: dict[str, Any]) -> None:
    run["weights"] = {}


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (nothing_at_all, "tensor m.E is not there"),
        (no_machines, "machine optimizer has no state"),
        (an_empty_machine, "machine control has no state"),
        (one_moment_lost, "tensor v.E is not there"),
        (a_moment_of_another_shape, "tensor m.E is not there in the shape [2, 3]"),
        (moments_of_zero, "every moment m is zero"),
        (no_weights, "tensor E is not there"),
    ],
)
def test_checkpoints_that_are_equally_empty_do_not_pass(tmp_path, spoil, says):
    run = content()
    spoil(run)
    a, b = write(tmp_path / "a", run), write(tmp_path / "b", run)
    assert first_difference.between(a, b) is None
    finding = resume.identical("resume/rerun", a, b, story="")
    assert not finding.passed
    assert says in finding.message


def test_one_ulp_in_one_weight_is_named(tmp_path):
    run = content()
    run["weights"]["E"][1, 2] = np.nextafter(run["weights"]["E"][1, 2], np.float32(2))
    found = between(tmp_path, run)
    assert found is not None
    assert (found.step, found.machine, found.ulps) == (STEPS, "model", 1)
    assert "tensor E[1, 2]" in found.place


def test_one_ulp_in_one_moment_is_named(tmp_path):
    run = content()
    run["moments"]["v.E"][0, 1] = np.nextafter(np.float32(1), np.float32(2))
    found = between(tmp_path, run)
    assert found is not None
    assert (found.machine, found.ulps) == ("optimizer", 1)
    assert "tensor v.E[0, 1]" in found.place


@pytest.mark.parametrize("machine", ["optimizer", "data", "control"])
def test_a_machine_that_starts_again_is_named_by_its_counter(tmp_path, machine):
    run = content()
    for name in run["machines"][machine]:
        run["machines"][machine][name] = 1
    change_losses(run, RESUMED_AT + 1)
    run["weights"]["E"] += np.float32(0.5)
    found = between(tmp_path, run)
    assert found is not None
    assert (found.step, found.machine) == (RESUMED_AT + 1, machine)


def test_a_scheduler_that_starts_again_is_named_although_its_step_is_right_in_the_end(tmp_path):
    run = content()
    for line, old in zip(run["log"][RESUMED_AT:], content()["log"], strict=False):
        line["lr"] = old["lr"]
    run["machines"]["data"]["position"] = 1  # everybody else went on too long
    found = between(tmp_path, run)
    assert found is not None
    assert (found.step, found.machine) == (RESUMED_AT + 1, "scheduler")


def test_lost_weights_show_in_the_next_loss_and_lost_moments_one_later(tmp_path):
    for machine, first in (("model", RESUMED_AT + 1), ("optimizer", RESUMED_AT + 2)):
        run = content()
        change_losses(run, first)
        run["weights"]["E"] += np.float32(0.5)
        found = between(tmp_path / machine, run)
        assert found is not None
        assert (found.step, found.machine) == (first, machine)


def test_a_log_that_repeats_its_lines_differs(tmp_path):
    run = content()
    run["log"].append(run["log"][-1])
    found = between(tmp_path, run)
    assert found is not None
    assert (found.step, found.place, found.got) == (STEPS + 1, "the log", "7 lines")


def test_a_run_without_the_last_checkpoint_differs(tmp_path):
    a, b = write(tmp_path / "a", content()), write(tmp_path / "b", content(), step=STEPS - 1)
    assert "no step at which both runs" in str(first_difference.between(a, b))


def test_the_message_says_step_machine_tensor_index_and_ulps(tmp_path):
    run = content()
    run["machines"]["control"]["step"] = 3
    change_losses(run, 4)
    run["weights"]["E"][0, 0] = np.nextafter(np.float32(-1), np.float32(0))
    a, b = write(tmp_path / "a", content()), write(tmp_path / "b", run)
    message = resume.identical("resume/twice", a, b, story="interrupted (stop 3)", resumed_at=3).message
    assert message == (
        "GATE resume / twice: interrupted (stop 3): first differing step 4, machine control, control.step, "
        "tensor E[0, 0], 1 ulp apart; got 3, expected 6; RESUME-03: a run that was stopped and resumed is, byte for "
        "byte, the run that was not (docs/rules/resume-03.md)"
    )


def rename_states(run: RunDirectory, **changes: Any) -> None:
    """As a loop that has names of its own for what it keeps."""
    path = run.path / "checkpoints" / f"step-{STEPS:08d}" / "state.json"
    state = {"step": STEPS, "epoch": 0, "batch": 6, "log": {"bytes": 5}, **changes}
    path.write_text(json.dumps(state), encoding="utf-8")


def test_states_under_other_names_are_compared_too(tmp_path):
    expected, same, other = (write(tmp_path / name, content()) for name in "abc")
    rename_states(expected)
    rename_states(same, log={"bytes": 7})
    rename_states(other, batch=5)
    assert first_difference.missing_state(expected) is None
    found = first_difference.between(expected, other)
    assert found is not None
    assert found.place == "batch"
    assert resume.identical("resume/rerun", expected, other, story="").passed is False


def test_a_state_that_keeps_nothing_is_not_whole(tmp_path):
    run = write(tmp_path / "a", content())
    (run.path / "checkpoints" / f"step-{STEPS:08d}" / "state.json").write_text("{}")
    assert "keeps nothing" in str(first_difference.missing_state(run))


def test_a_difference_is_the_fault_of_the_resume_that_made_the_step(tmp_path):
    """A run that was stopped after steps 1 and 4; what differs from step 3 on is the work of the first resume."""
    changed = content()
    change_losses(changed, 3)
    expected, got = write(tmp_path / "a", content()), write(tmp_path / "b", changed)
    stops = {"first": ((1, [1]), "stop 1", 0), "second": ((4, [1, 4]), "stop 4", 0)}
    links = interrupted_runs.links(got, stops)
    assert not resume.resumed("first-step", expected, links["first"]).passed
    with pytest.raises(GateError, match="differs from step 3 on, before this interruption"):
        resume.resumed("last-step", expected, links["second"])


def test_a_difference_after_a_later_interruption_is_not_the_fault_of_an_earlier_resume(tmp_path):
    changed = content()
    change_losses(changed, 5)
    expected, got = write(tmp_path / "a", content()), write(tmp_path / "b", changed)
    stops = {"first": ((1, [1]), "stop 1", 0), "second": ((4, [1, 4]), "stop 4", 0)}
    links = interrupted_runs.links(got, stops)
    assert resume.resumed("first-step", expected, links["first"]).passed
    assert not resume.resumed("last-step", expected, links["second"]).passed


def with_average(home: Path, value: float) -> RunDirectory:
    """A run whose settings switch on a sixth machine, which keeps an average of the weights."""
    run = write(home, content())
    average = {"E": np.full((2, 3), value, np.float32)}
    (home / f"checkpoints/step-{STEPS:08d}/average.safetensors").write_bytes(tensors.write(average))
    return run


def test_the_arrays_of_a_machine_beside_the_five_are_compared(tmp_path):
    a, b, c = (with_average(tmp_path / name, value) for name, value in (("a", 1.0), ("b", 2.0), ("c", 1.0)))
    found = first_difference.between(a, b)
    assert found is not None
    assert (found.machine, found.step, found.place) == ("average", STEPS, "tensor E[0, 0]")
    assert first_difference.between(a, c) is None
    lost = first_difference.between(a, write(tmp_path / "d", content()))
    assert lost is not None
    assert (lost.machine, lost.got) == ("average", "no such file")
    assert first_difference.compared_bytes(a, c) > first_difference.compared_bytes(
        a, write(tmp_path / "e", content())
    )
