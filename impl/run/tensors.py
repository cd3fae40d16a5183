"""Named tensors to safetensors bytes and back; no format that can carry code."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from impl.errors import UsageError

Array = np.ndarray[Any, np.dtype[Any]]


def to_bytes(tensors: Mapping[str, Array]) -> bytes:
    """The safetensors file of these tensors; equal tensors give equal bytes."""
    in_order = {name: np.asarray(value, order="C") for name, value in tensors.items()}
    return safetensors.numpy.save(in_order)


def from_file(path: Path) -> dict[str, Array]:
    """The tensors in a file. Raises UsageError, naming it, if it is missing or not whole."""
    try:
        return safetensors.numpy.load(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise UsageError(f"{path}: no such file") from None
    except SafetensorError as error:
        raise UsageError(f"{path}: not a safetensors file ({error})") from None


def require(tensors: Mapping[str, Array], like: Mapping[str, Array], path: Path) -> None:
    """Raise UsageError unless names, shapes and types are those of `like` and every value is finite."""
    missing, extra = sorted(like.keys() - tensors.keys()), sorted(tensors.keys() - like.keys())
    if missing or extra:
        raise UsageError(f"{path}: missing tensors {missing}, unknown tensors {extra}")
    for name, array in like.items():
        found = tensors[name]
        if found.shape != array.shape or found.dtype != array.dtype:
            raise UsageError(
                f"{path}: {name} is {found.dtype} {found.shape}, expected {array.dtype} {array.shape}"
            )
        if not np.isfinite(found).all():
            raise UsageError(f"{path}: {name} has values that are not finite")
