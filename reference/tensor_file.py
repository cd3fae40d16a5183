"""A safetensors file, read without the library: header length, header in JSON, bytes.

    8 bytes   n, little-endian
    n bytes   JSON: name -> dtype, shape, data_offsets (from the end of the header); `__metadata__` has texts
    the rest  numbers in C order, little-endian, without gaps

Source: github.com/safetensors/safetensors, README, "Format".
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Num

KINDS = {"float64": "F64", "float32": "F32", "float16": "F16", "int64": "I64", "int32": "I32", "bool": "BOOL"}
"""NumPy's name of a dtype -> the file's."""
SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}


@dataclass(frozen=True)
class Stored:
    """A tensor as it is in the file."""

    kind: str
    shape: tuple[int, ...]
    data: bytes


def stored(x: Num[np.ndarray, "..."]) -> Stored:
    """An array, of any shape, as it must be in a file. KeyError for a dtype that the format lacks."""
    return Stored(KINDS[x.dtype.name], x.shape, np.ascontiguousarray(x).tobytes())


def read(data: bytes) -> dict[str, Stored]:
    """The tensors of a file by name. ValueError for what is no safetensors file."""
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 + length:
        raise ValueError(f"a header of {length} bytes in a file of {len(data)}")
    header: dict[str, Any] = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    tensors = {name: _tensor(name, entry, data[8 + length :]) for name, entry in header.items()}
    held = sum(len(x.data) for x in tensors.values())
    if held != len(data) - 8 - length:
        raise ValueError(f"{held} bytes of tensors, {len(data) - 8 - length} behind the header")
    return tensors


def _tensor(name: str, entry: Mapping[str, Any], data: bytes) -> Stored:
    start, end = entry["data_offsets"]
    shape = tuple(entry["shape"])
    if end - start != SIZES[entry["dtype"]] * math.prod(shape) or end > len(data):
        raise ValueError(f"{name}: {end - start} bytes for {entry['dtype']} {shape}")
    return Stored(entry["dtype"], shape, data[start:end])


def export(params: Mapping[str, Num[np.ndarray, "..."]], path: str) -> None:
    """Write these arrays, of any shape; one that is there under several names is written under each."""
    header, parts, offset = {}, [], 0
    for name, x in params.items():
        one = stored(x)
        end = offset + len(one.data)
        header[name] = {"dtype": one.kind, "shape": list(one.shape), "data_offsets": [offset, end]}
        parts.append(one.data)
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(b"".join([len(text).to_bytes(8, "little"), text, *parts]))
