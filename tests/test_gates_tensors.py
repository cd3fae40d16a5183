"""The gates' own reader of safetensors files: strict to the last byte; and distances in ulps."""

import json
import math

import numpy as np
import pytest
from safetensors.numpy import load, save

from gates.subject import tensors

ARRAYS = {
    "E": np.arange(6, dtype=np.float32).reshape(2, 3),
    "mask": np.array([[True, False]]),
    "tokens": np.array([[1, -2, 3]], np.int64),
    "half": np.array([0.5, -2.0], np.float16),
    "empty": np.zeros((0, 4)),
}


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(
        a[name].dtype == b[name].dtype and np.array_equal(a[name], b[name]) for name in a
    )


def build(header: object, body: bytes) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def entry(start: int, end: int, shape: list[int], dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def test_reads_what_the_library_writes():
    assert same(tensors.read(save(ARRAYS, metadata={"format": "np"})), ARRAYS)


def test_writes_what_the_library_reads():
    assert same(load(tensors.write(ARRAYS)), ARRAYS)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "length of a header"),
        (b"\xff" * 16, "length of a header"),
        (build({}, b"")[:-1], "length of a header"),
        (build([], b""), "not a JSON object"),
        ((2).to_bytes(8, "little") + b"{]", "not valid JSON"),
        ((13).to_bytes(8, "little") + b'{"a":1,"a":2}', "stands twice"),
        (build({"a": {"dtype": "F32"}}, b""), "expected dtype, shape"),
        (build({"a": entry(0, 4, [1], "F8")}, b"\0" * 4), "unknown dtype"),
        (build({"a": entry(0, 4, [-1])}, b"\0" * 4), "natural numbers"),
        (build({"a": entry(0, 4, [True])}, b"\0" * 4), "natural numbers"),
        (build({"a": entry(0, 8, [1])}, b"\0" * 8), "disagree"),
        (build({"a": entry(0, 4, [1])}, b"\0" * 3), "disagree"),
        (build({"a": entry(0, 4, [1])}, b"\0" * 5), "1 bytes after"),
        (build({"a": entry(4, 8, [1])}, b"\0" * 8), "a gap or an overlap"),
        (build({"a": entry(0, 4, [1]), "b": entry(0, 4, [1])}, b"\0" * 4), "a gap or an overlap"),
        (build({"a": entry(0, 1, [1], "BOOL")}, b"\2"), "neither 0 nor 1"),
        (build({"__metadata__": {"a": 1}}, b""), "mapping of strings"),
    ],
)
def test_refuses_a_file_with_a_byte_out_of_place(data, says):
    with pytest.raises(tensors.TensorFileError, match=says):
        tensors.read(data)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_counts_representable_numbers(dtype):
    kind = np.dtype(dtype)
    one = dtype(1)
    assert tensors.ulps_apart(1.0, float(np.nextafter(one, dtype(2))), kind) == 1
    assert (
        tensors.ulps_apart(float(np.nextafter(one, dtype(0))), float(np.nextafter(one, dtype(2))), kind) == 2
    )
    assert tensors.ulps_apart(0.0, -0.0, kind) == 0
    tiny = float(np.finfo(dtype).smallest_subnormal)
    assert tensors.ulps_apart(tiny, -tiny, kind) == 2
    assert tensors.ulps_apart(math.nan, 1.0, kind) is None


def test_finds_the_first_element_whose_bytes_differ():
    a = np.array([[0.0, 1.0], [math.nan, 2.0]])
    assert tensors.first_difference(a, a.copy()) is None
    b = a.copy()
    b[0, 0] = -0.0
    assert tensors.first_difference(a, b) == (0, 0)
    c = a.copy()
    c[1, 1] = 3.0
    assert tensors.first_difference(a, c) == (1, 1)
