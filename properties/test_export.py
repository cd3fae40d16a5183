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
    groups = {}
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
        missing = [group for group in tied(params) if not found.keys() & set(group)]
        plain = len(tied(params)) == len(params) and not overlapping(params)
        rule = "EXP-01" if plain else "EXP-02"
        holds(rule, not missing, f"missing: {', '.join('/'.join(group) for group in missing)}")
        holds("EXP-02", not missing, "")
        by_library(path)


def overlapping(params):
    """Whether two arrays share memory, or have equal bytes."""
    arrays = list(params.values())
    pairs = [(a, b) for i, a in enumerate(arrays) for b in arrays[i + 1 :]]
    return any(np.may_share_memory(a, b) or (a.size and a.tobytes() == b.tobytes()) for a, b in pairs)


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
