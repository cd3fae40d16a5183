"""Parameters in a safetensors file."""

from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from fixtures.parts_strategies import parameter_sets
from fixtures.temporary_folder import temporary_folder
from properties.assertions import holds
from properties.checks import checks
from reference.tensor_file import read, stored


def exported(subject, params, path):
    """The tensors of the file, read without the library."""
    subject.export(params, str(path))
    try:
        return read(path.read_bytes())
    except (OSError, ValueError, KeyError, TypeError) as error:
        holds("EXP-03", False, f"the file cannot be read: {type(error).__name__}: {error}")


def tied(params):
    """Names that are one array, in groups."""
    groups: dict[int, list[str]] = {}
    for name, x in params.items():
        groups.setdefault(id(x), []).append(name)
    return list(groups.values())


@checks("EXP-01", "EXP-02", "EXP-03", params=parameter_sets())
def test_every_tensor_is_in_the_file(subject, params):
    """Of every float type, rank and layout; tied, equal and overlapping ones among them."""
    with temporary_folder() as folder:
        path = Path(folder) / "model.safetensors"
        found = exported(subject, params, path)
        unknown = sorted(found.keys() - params.keys())
        holds("EXP-01", not unknown, f"names that no parameter has: {unknown}")
        for name, got in found.items():
            wanted = stored(params[name])
            same = (got.kind, got.shape) == (wanted.kind, wanted.shape)
            said = f"{name} is {got.kind} {got.shape}, expected {wanted.kind} {wanted.shape}"
            holds("EXP-01", same, said)
            holds("EXP-01", got.data == wanted.data, f"{name}: other bytes than the array's, in C order")
        for group in tied(params):
            rule = "EXP-02" if len(group) > 1 or alike(params, group[0]) else "EXP-01"
            holds(rule, found.keys() & set(group), f"missing: {' and '.join(group)}")
        holds("EXP-02", True, "")
        by_library(path)


def alike(params, name):
    """Whether another array shares memory with this one, or has its numbers."""
    x = params[name]
    others = [y for other, y in params.items() if other != name and y.size and x.size]
    return any(np.may_share_memory(x, y) or x.tobytes() == y.tobytes() for y in others)


def by_library(path):
    """The library opens the file and reads every tensor."""
    try:
        with safe_open(str(path), framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118  (no mapping)
                file.get_tensor(name)
    except (SafetensorError, OSError, TypeError) as error:
        holds("EXP-03", False, f"safetensors cannot read it: {error}")
    holds("EXP-03", True, "")


@checks("EXP-03", params=parameter_sets())
def test_an_export_replaces_what_was_there(subject, params):
    """A larger file of other weights, and one that is none."""
    with temporary_folder() as folder:
        path = Path(folder) / "model.safetensors"
        subject.export({"old": np.ones(500, np.float32)}, str(path))
        found = exported(subject, params, path)
        holds("EXP-03", "old" not in found, "the file that was there has not been replaced")
        path.write_bytes(b"?" * 3000)
        again = exported(subject, params, path)
        holds("EXP-03", again == found, "another file than the first time")
