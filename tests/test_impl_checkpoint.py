"""Checkpoints are whole or absent, verified when read, and never written over something better."""

import json
import os

import numpy as np
import pytest

from impl.errors import UsageError
from impl.run import checkpoint, files, tensors
from impl.run.checkpoint import Expected

SHAPES = {"E": (4, 3), "ln_final.gamma": (3,)}
LOG = {"bytes": 0, "sha256": files.sha256_bytes(b"")}


class Machine:
    """A state machine that remembers what it was given."""

    def __init__(self, **state):
        self._state = state

    def state(self):
        return dict(self._state)


def machines(value=1.0):
    weights = {name: np.full(shape, value, np.float32) for name, shape in SHAPES.items()}
    moments = {f"{kind}.{name}": array for kind in "mv" for name, array in weights.items()}
    return {
        "model": Machine(**weights),
        "optimizer": Machine(t=3, **moments),
        "data": Machine(epoch=1, position=2),
    }


EXPECTED = Expected.of("a" * 32, machines())


def save(folder, step, value=1.0):
    return checkpoint.save(folder, EXPECTED.run_id, step, machines(value), LOG, {"step": 1, "val_loss": 0.5})


def newest(folder):
    lines: list[str] = []
    return checkpoint.newest(folder, EXPECTED, lambda log: log == LOG, lines.append), lines


def test_what_is_saved_is_read_back(tmp_path):
    save(tmp_path, 7, value=0.1)
    found, lines = newest(tmp_path)
    assert (found.step, found.best, found.log, lines) == (7, {"step": 1, "val_loss": 0.5}, LOG, [])
    assert found.machines["data"] == {"epoch": 1, "position": 2}
    assert found.machines["optimizer"]["t"] == 3
    assert found.machines["model"]["E"].tobytes() == np.full((4, 3), 0.1, np.float32).tobytes()


def with_average(value=2.0, **scalars):
    """The machines of a run whose settings switch on one more."""
    return machines() | {"average": Machine(updates=4, E=np.full((4, 3), value), **scalars)}


def test_a_machine_more_has_a_file_of_its_own_which_is_checked_like_the_others(tmp_path):
    expected = Expected.of(EXPECTED.run_id, with_average(value=0.0))
    path = checkpoint.save(tmp_path, EXPECTED.run_id, 7, with_average(), LOG, None)
    found = checkpoint.load(path, expected)
    assert found.machines["average"]["updates"] == 4
    assert found.machines["average"]["E"].tobytes() == np.full((4, 3), 2.0).tobytes()
    (path / "average.safetensors").write_bytes(tensors.to_bytes({"E": np.full((4, 3), 3.0)}))
    with pytest.raises(UsageError, match=r"average.safetensors: its bytes are not the ones that were saved"):
        checkpoint.load(path, expected)


def test_a_checkpoint_with_a_machine_more_or_less_than_the_run_has_is_refused(tmp_path):
    expected = Expected.of(EXPECTED.run_id, with_average())
    with pytest.raises(UsageError, match="its manifest lists"):
        checkpoint.load(save(tmp_path, 7), expected)
    more = checkpoint.save(tmp_path, EXPECTED.run_id, 8, with_average(), LOG, None)
    with pytest.raises(UsageError, match="its manifest lists"):
        checkpoint.load(more, EXPECTED)


def test_step_numbers_compare_as_numbers(tmp_path):
    for step in (999, 1000, 99_999_999):
        save(tmp_path, step)
    assert newest(tmp_path)[0].step == 99_999_999


@pytest.mark.parametrize(
    "name", [checkpoint.WEIGHTS, checkpoint.OPTIMIZER, checkpoint.STATE, checkpoint.MANIFEST]
)
@pytest.mark.parametrize("damage", ["missing", "truncated", "zeroed tail", "one bit"])
def test_a_damaged_checkpoint_is_reported_and_the_one_before_is_used(tmp_path, name, damage):
    save(tmp_path, 5)
    path = save(tmp_path, 10) / name
    data = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "zeroed tail":
        path.write_bytes(data[:-8] + bytes(8))
    else:
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    found, lines = newest(tmp_path)
    assert found.step == 5
    assert len(lines) == 1
    assert "step-00000010" in lines[0]


@pytest.mark.parametrize(
    ("name", "tensor", "problem"),
    [
        (checkpoint.WEIGHTS, {"E": np.ones((4, 3), np.float32)}, "missing tensors ['ln_final.gamma']"),
        (
            checkpoint.WEIGHTS,
            {"E": np.ones((4, 3)), "ln_final.gamma": np.ones(3, np.float32)},
            "E is float64",
        ),
        (
            checkpoint.WEIGHTS,
            {"E": np.ones((3, 4), np.float32), "ln_final.gamma": np.ones(3, np.float32)},
            "(3, 4)",
        ),
        (
            checkpoint.WEIGHTS,
            {"E": np.full((4, 3), np.nan, np.float32), "ln_final.gamma": np.ones(3, np.float32)},
            "not finite",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_refused_even_with_a_right_digest(tmp_path, name, tensor, problem):
    path = save(tmp_path, 10)
    _replace(path, name, tensors.to_bytes(tensor))
    found, lines = newest(tmp_path)
    assert found is None
    assert problem in lines[0]


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    checkpoint.save(tmp_path, "b" * 32, 1, machines(), LOG, None)
    assert newest(tmp_path)[0] is None


def test_a_log_that_does_not_fit_is_refused(tmp_path):
    checkpoint.save(tmp_path, EXPECTED.run_id, 1, machines(), {"bytes": 4, "sha256": "0" * 64}, None)
    found, lines = newest(tmp_path)
    assert found is None
    assert "train_log.jsonl" in lines[0]


@pytest.mark.parametrize("event", ["open", "write", "fsync", "rename", "mkdir"])
def test_a_save_that_fails_at_any_point_leaves_the_last_checkpoint_in_charge(tmp_path, monkeypatch, event):
    """The same step is saved again, and the disk is full: old contents stay, nothing half-written is visible."""
    kept = save(tmp_path, 5)
    before = {path.name: path.read_bytes() for path in kept.iterdir()}
    calls = _fail_on(monkeypatch, event)
    with pytest.raises(OSError, match="No space left"):
        save(tmp_path, 6)
    assert calls
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000005"]
    assert newest(tmp_path)[0].step == 5


def _fail_on(monkeypatch, event):
    """Make the next file event of a kind raise ENOSPC; returns the list of calls that did."""
    calls = []

    def full(*args, **kwargs):
        calls.append(args)
        raise OSError(28, "No space left on device")

    targets = {
        "open": ("pathlib.Path.open", full),
        "write": ("impl.run.checkpoint.write_synced", full),
        "fsync": ("os.fsync", full),
        "rename": ("pathlib.Path.rename", full),
        "mkdir": ("os.mkdir", full),
    }
    monkeypatch.setattr(*targets[event])
    return calls


def test_saving_a_step_again_replaces_it(tmp_path):
    save(tmp_path, 5, value=1.0)
    save(tmp_path, 5, value=2.0)
    assert newest(tmp_path)[0].machines["model"]["E"][0, 0] == 2.0
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000005"]


def test_equal_states_give_equal_bytes(tmp_path):
    first, second = save(tmp_path / "a", 5), save(tmp_path / "b", 5)
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes()


def test_no_temporary_file_is_left_by_an_atomic_write_that_fails(tmp_path, monkeypatch):
    target = tmp_path / "file"
    files.atomic_write(target, b"old")
    monkeypatch.setattr(os, "replace", _raise)
    with pytest.raises(OSError, match="refused"):
        files.atomic_write(target, b"new")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def _raise(*args):
    raise OSError("refused")


def test_json_with_nan_is_never_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "x.json", {"loss": float("nan")})
    assert not list(tmp_path.iterdir())


def test_missing_and_broken_json_are_named(tmp_path):
    with pytest.raises(UsageError, match=r"x\.json: no such file"):
        files.read_json(tmp_path / "x.json")
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(UsageError, match=r"x\.json: not valid JSON"):
        files.read_json(tmp_path / "x.json")


def test_no_bit_of_a_manifest_can_change_unnoticed(tmp_path):
    path = save(tmp_path, 1) / checkpoint.MANIFEST
    data = path.read_bytes()
    for place in range(len(data)):
        for bit in (0, 2, 5):
            path.write_bytes(data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :])
            assert newest(tmp_path)[0] is None, (place, bit, chr(data[place]))
    path.write_bytes(data)
    assert newest(tmp_path)[0] is not None


def _replace(path, name, data):
    """Put other bytes into a checkpoint and make its manifest agree."""
    (path / name).write_bytes(data)
    manifest = json.loads((path / checkpoint.MANIFEST).read_text())
    manifest["files"][name] = {"sha256": files.sha256_bytes(data), "bytes": len(data)}
    (path / checkpoint.MANIFEST).write_text(json.dumps(manifest))
