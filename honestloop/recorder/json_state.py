"""States of schedulers, scalers, generators and loaders as JSON, exactly, and back; nothing is pickled.

JSON has no tuples, bytes, arrays, keys that are numbers, NaN or integers above 2^53 that every reader keeps. Each of
these becomes an object of one key that begins with "$": {"$tuple": [...]}, {"$bytes": base64}, {"$float": "inf"},
{"$array": {dtype, shape, base64 of the little-endian bytes}}, {"$tensor": the same, of PyTorch},
{"$pairs": [[key, value], ...]}, {"$int": "18446744073709551615"}. A float is written as Python's shortest text, which
is read back to the same bits.
"""

import base64
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from honestloop.recorder.errors import RecorderError

EXACT = 2**53
"""Integers up to here are exact in every reader of JSON (RFC 8259, section 6)."""


def encode(value: Any, place: str) -> Any:
    """The value as JSON. RecorderError, naming the place in it, for what cannot be written: functions, objects."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value) if abs(value) <= EXACT else {"$int": str(int(value))}
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"$float": repr(float(value))}
    if isinstance(value, bytes | bytearray):
        return {"$bytes": base64.b64encode(value).decode()}
    if isinstance(value, Mapping):
        return _mapping(value, place)
    if isinstance(value, tuple):
        return {"$tuple": [encode(x, f"{place}[{i}]") for i, x in enumerate(value)]}
    if isinstance(value, list):
        return [encode(x, f"{place}[{i}]") for i, x in enumerate(value)]
    if isinstance(value, np.generic):
        return encode(value.item(), place)
    if hasattr(value, "__array__"):
        return _array(value, place)
    raise RecorderError(f"{place}: a {type(value).__name__} cannot be saved as JSON")


def decode(value: Any) -> Any:
    """The value that `encode` was given; an array of JAX comes back as one of NumPy."""
    if isinstance(value, list):
        return [decode(x) for x in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((kind, held),) = value.items()
        if kind in _DECODERS:
            return _DECODERS[kind](held)
    return {key: decode(x) for key, x in value.items()}


def _mapping(value: Mapping[Any, Any], place: str) -> Any:
    if all(type(key) is str and not key.startswith("$") for key in value):
        return {key: encode(x, f"{place}.{key}") for key, x in value.items()}
    return {"$pairs": [[encode(k, place), encode(x, f"{place}[{k!r}]")] for k, x in value.items()]}


def _array(value: Any, place: str) -> Any:
    tensor = hasattr(value, "detach")  # PyTorch's
    array = np.asarray(value.detach().cpu() if tensor else value)
    if array.dtype.kind not in "biuf":
        raise RecorderError(f"{place}: an array of {array.dtype} cannot be saved as JSON")
    array = array.astype(array.dtype.newbyteorder("<"))
    held = {
        "dtype": array.dtype.str,
        "shape": list(array.shape),
        "base64": base64.b64encode(array.tobytes()).decode(),
    }
    return {"$tensor" if tensor else "$array": held}


def _read_array(held: Mapping[str, Any]) -> Any:
    data = base64.b64decode(held["base64"])
    return np.frombuffer(data, np.dtype(held["dtype"])).reshape(held["shape"]).copy()


def _read_tensor(held: Mapping[str, Any]) -> Any:
    import torch

    return torch.from_numpy(_read_array(held))


_DECODERS: dict[str, Any] = {
    "$tuple": lambda held: tuple(decode(x) for x in held),
    "$bytes": base64.b64decode,
    "$array": _read_array,
    "$tensor": _read_tensor,
    "$pairs": lambda held: {decode(key): decode(x) for key, x in held},
    "$float": float,
    "$int": int,
}
