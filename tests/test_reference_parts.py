"""The laws of the parts around a loop, on cases that were worked out by hand."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from reference.checkpoint_choice import latest_checkpoint, save_checkpoint
from reference.collate import collate
from reference.split import SHARE, split_of
from reference.tensor_file import export, read, stored
from reference.worker_stream import worker_stream

EXAMPLES = [([4, 5], [6, 1]), ([], [7]), ([8], [])]
"""Two prompt tokens and two to predict; one that nothing is before; a prompt alone."""


def lists(arrays):
    return [x.astype(int).tolist() for x in arrays]


def test_a_batch_of_prompts_and_completions():
    tokens, target, loss_mask, key_mask = lists(collate(EXAMPLES, 0))
    assert tokens == [[4, 5, 6], [0, 0, 0], [0, 0, 0]]
    assert target[0] == [5, 6, 1]
    assert loss_mask == [[0, 1, 1], [0, 0, 0], [0, 0, 0]]
    assert key_mask == [[1, 1, 1], [0, 0, 0], [0, 0, 0]]


def test_labels_in_the_target():
    tokens, target, key_mask = lists(collate(EXAMPLES, 0, "-100"))
    assert tokens[0] == [4, 5, 6] and target[0] == [-100, 6, 1] and key_mask[0] == [1, 1, 1]
    assert target[1] == target[2] == [-100] * 3
    tokens, target, key_mask = lists(collate(EXAMPLES, 9, "-100 unshifted"))
    assert tokens == [[4, 5, 6, 1], [7, 9, 9, 9], [8, 9, 9, 9]]
    assert target == [[-100, -100, 6, 1], [7, -100, -100, -100], [-100] * 4]
    assert key_mask == [[1, 1, 1, 1], [1, 0, 0, 0], [1, 0, 0, 0]]


@pytest.mark.parametrize("wrong", [[], [([], [])]])
def test_nothing_is_no_batch(wrong):
    with pytest.raises(ValueError, match="one token at least"):
        collate(wrong, 0)


def test_worker_streams_are_equal_for_equal_arguments_alone():
    first = worker_stream(1, 2, 3, 50)
    assert first.dtype == np.uint64 and np.array_equal(worker_stream(1, 2, 3, 60)[:50], first)
    others = [(2, 2, 3), (1, 3, 3), (1, 2, 4), (1, 3, 2), (1 + 2**32, 2, 3), (1, 2 + 2**32, 3)]
    assert len({worker_stream(*triple, 50).tobytes() for triple in [(1, 2, 3), *others]}) == 7
    assert 0.35 < (first > 2**63).mean() < 0.65


def test_a_tenth_is_held_out():
    counts = Counter(split_of(str(k)) for k in range(5000))
    assert set(counts) == {"train", "val"}
    assert abs(counts["val"] / 5000 - SHARE) < 6 * (SHARE * (1 - SHARE) / 5000) ** 0.5
    assert split_of("", 0.0) == "train" and split_of("", 1.0) == "val"


def test_the_latest_is_the_largest_number_that_is_whole(tmp_path):
    paths = {step: Path(save_checkpoint(str(tmp_path), step)) for step in (9, 10, 100)}
    assert latest_checkpoint(str(tmp_path)) == str(paths[100])
    (paths[100] / "state.json").write_text("{}")
    assert latest_checkpoint(str(tmp_path)) == str(paths[10])
    shutil.rmtree(paths[10])
    (tmp_path / "step-11").write_text("a file")
    (tmp_path / "step-12").symlink_to(tmp_path / "gone")
    (tmp_path / "step-1x").mkdir()
    assert latest_checkpoint(str(tmp_path)) == str(paths[9])
    (paths[9] / "manifest.json").write_text("[]")
    assert latest_checkpoint(str(tmp_path)) is None
    assert latest_checkpoint(str(tmp_path / "gone")) is None


def test_a_file_of_ours_is_read_by_the_library_and_the_reverse(tmp_path):
    table = np.arange(6, dtype=np.float32).reshape(2, 3)
    params: dict[str, Any] = {
        "E": table,
        "head": table,
        "t": table.T,
        "s": np.float64(2).reshape(()),
        "e": np.zeros((0, 2)),
    }
    ours, theirs = tmp_path / "ours.safetensors", tmp_path / "theirs.safetensors"
    export(params, str(ours))
    for name, x in load_file(ours).items():
        assert (
            x.dtype == params[name].dtype
            and np.array_equal(x, params[name])
            and x.shape == params[name].shape
        )
    save_file({name: np.asarray(x, order="C") for name, x in params.items()}, theirs, {"format": "pt"})
    assert read(theirs.read_bytes()) == read(ours.read_bytes()) == {n: stored(x) for n, x in params.items()}


def header(entry, data=b"1234"):
    text = json.dumps({"x": entry}).encode()
    return len(text).to_bytes(8, "little") + text + data


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        b"\xff" * 20,
        header({"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, b"123"),
        header({"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, b"12345"),
        header({"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}),
    ],
)
def test_what_is_no_safetensors_file_is_refused(wrong):
    with pytest.raises(ValueError):
        read(wrong)
