"""Safetensors files, read strictly and without the library that wrote them; and how far apart two tensors are.

Format: 8 bytes little-endian header length, a JSON header, then the tensors' bytes with no gap, no overlap and nothing
after them. Source: the format description of huggingface/safetensors.
"""

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

DTYPES = {
    "BOOL": np.dtype(bool),
    "U8": np.dtype("u1"),
    "I32": np.dtype("<i4"),
    "I64": np.dtype("<i8"),
    "U32": np.dtype("<u4"),
    "U64": np.dtype("<u8"),
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
}
SIZES = {**{name: dtype.itemsize for name, dtype in DTYPES.items()}, "BF16": 2, "I8": 1, "I16": 2, "U16": 2}
"""Bytes of an element, of every dtype that a file may have; NumPy has no bfloat16."""
MAX_HEADER = 16 << 20


class TensorFileError(ValueError):
    """The bytes are not a valid safetensors file; says where."""


def read(data: bytes) -> dict[str, np.ndarray]:
    """Every tensor of a safetensors file, read-only views of `data`. TensorFileError if any byte is out of place."""
    header, body = _split(data)
    found: dict[str, np.ndarray] = {}
    for name, entry in _placed(header, len(body)).items():
        if entry.dtype not in DTYPES:
            raise TensorFileError(f"tensor {name!r}: unknown dtype {entry.dtype!r}")
        dtype, (start, end) = DTYPES[entry.dtype], entry.span
        if dtype.kind == "b" and not set(body[start:end]) <= {0, 1}:
            raise TensorFileError(f"tensor {name!r}: a boolean that is neither 0 nor 1")
        found[name] = np.frombuffer(body[start:end], dtype).reshape(entry.shape)
    return found


@dataclass(frozen=True)
class Entry:
    """What a header says of a tensor: dtype as the format names it, shape, first byte and end in the data."""

    dtype: str
    shape: tuple[int, ...]
    span: tuple[int, int]


def entries(head: bytes, size: int) -> dict[str, Entry]:
    """What the header says of each tensor, of a file of `size` bytes that begins with `head`: all of the header.

    TensorFileError as for `read`, but for what the data themselves are.
    """
    header, rest = _split(head)
    return _placed(header, size - (len(head) - len(rest)))


def _placed(header: dict[str, Any], size: int) -> dict[str, Entry]:
    """Each tensor by name; their places fill the `size` bytes of data without a gap or an overlap."""
    found: dict[str, Entry] = {}
    for name, said in header.items():
        if name == "__metadata__":
            _check_metadata(said)
            continue
        entry = _entry(name, said)
        start, end = entry.span
        if end - start != SIZES[entry.dtype] * math.prod(entry.shape) or not 0 <= start <= end <= size:
            raise TensorFileError(f"tensor {name!r}: its shape and its place in the file disagree")
        found[name] = entry
    position = 0
    for start, end in sorted(entry.span for entry in found.values()):
        if start != position:
            raise TensorFileError(f"byte {position} of the data: a gap or an overlap between tensors")
        position = end
    if position != size:
        raise TensorFileError(f"{size - position} bytes after the last tensor")
    return found


def write(arrays: dict[str, np.ndarray]) -> bytes:
    """A safetensors file of these arrays (the probes that a gate hands to a subject)."""
    names = {dtype: name for name, dtype in DTYPES.items()}
    header: dict[str, Any] = {}
    position = 0
    for name, array in arrays.items():
        entry = {"dtype": names[array.dtype], "shape": list(array.shape)}
        header[name] = {**entry, "data_offsets": [position, position + array.nbytes]}
        position += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return (
        len(text).to_bytes(8, "little")
        + text
        + b"".join(np.ascontiguousarray(a).tobytes() for a in arrays.values())
    )


def ulps_apart(a: float, b: float, dtype: np.dtype) -> int | None:
    """How many representable numbers of `dtype` lie from a to b (0 and -0 are the same); None if either is NaN."""
    if math.isnan(a) or math.isnan(b):
        return None
    return abs(_ordinal(a, dtype) - _ordinal(b, dtype))


def first_difference(a: np.ndarray, b: np.ndarray) -> tuple[int, ...] | None:
    """Index of the first element whose bytes differ, or None; row-major order, two arrays of one shape and dtype."""
    width = f"u{a.dtype.itemsize}"
    different = np.ascontiguousarray(a).view(width).ravel() != np.ascontiguousarray(b).view(width).ravel()
    if not different.any():
        return None
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(different)), a.shape))


def _ordinal(x: float, dtype: np.dtype) -> int:
    bits = int(np.asarray(x, dtype).view(f"i{dtype.itemsize}"))
    smallest = -(1 << (8 * dtype.itemsize - 1))
    return bits if bits >= 0 else smallest - bits


def _split(data: bytes) -> tuple[dict[str, Any], bytes]:
    length = int.from_bytes(data[:8], "little") if len(data) >= 8 else -1
    if not 2 <= length <= min(MAX_HEADER, len(data) - 8):
        raise TensorFileError("the first 8 bytes are not the length of a header")
    try:
        header = json.loads(data[8 : 8 + length].decode("utf-8"), object_pairs_hook=_no_repeats)
    except (ValueError, RecursionError) as error:
        raise TensorFileError(f"the header is not valid JSON ({error})") from None
    if not isinstance(header, dict):
        raise TensorFileError("the header is not a JSON object")
    return header, data[8 + length :]


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key stands twice")
    return result


def _entry(name: str, entry: Any) -> Entry:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise TensorFileError(f"tensor {name!r}: expected dtype, shape and data_offsets")
    if not isinstance(entry["dtype"], str) or entry["dtype"] not in SIZES:
        raise TensorFileError(f"tensor {name!r}: unknown dtype {entry['dtype']!r}")
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not (_naturals(shape) and _naturals(offsets) and len(offsets) == 2):
        raise TensorFileError(f"tensor {name!r}: shape and data_offsets are lists of natural numbers")
    return Entry(entry["dtype"], tuple(shape), (offsets[0], offsets[1]))


def _naturals(value: Any) -> bool:
    return isinstance(value, list) and all(type(v) is int and v >= 0 for v in value)


def _check_metadata(value: Any) -> None:
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise TensorFileError("__metadata__ is not a mapping of strings")
