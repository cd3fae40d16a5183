"""Which checkpoint a run goes on from: of those that are whole, the one with the largest number.

A checkpoint is here a folder `step-N` of files, and `manifest.json` with the SHA-256 of each. It is filled under
another name and renamed when it is complete. The number is read as a number (step-10 is after step-9). Whole means: it
has a manifest, every file is there, and every byte is the one that was saved. What has another name, is a file or a
link to nothing is none. The times of files are no evidence: a copy changes them.

Sources: github.com/strands-labs/robots/pull/3165 (names in the order of text);
github.com/PrimeIntellect-ai/prime-rl/pull/1825 (incomplete ones).
"""

import hashlib
import json
import re
from pathlib import Path

import numpy as np

NAME = re.compile(r"step-([0-9]+)")
MANIFEST, WEIGHTS, STATE = "manifest.json", "weights.bin", "state.json"


def save_checkpoint(folder: str, step: int) -> str:
    """A complete checkpoint of this update in an existing folder; its path."""
    files = {
        WEIGHTS: np.random.default_rng(step).standard_normal(8).tobytes(),
        STATE: json.dumps({"step": step}).encode(),
    }
    final = Path(folder) / f"step-{step}"
    partial = Path(folder) / f".step-{step}.tmp"
    partial.mkdir()
    for name, data in files.items():
        (partial / name).write_bytes(data)
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    (partial / MANIFEST).write_text(json.dumps(digests))
    partial.rename(final)
    return str(final)


def is_whole(path: Path) -> bool:
    """Whether every file is there with the bytes that its manifest names."""
    try:
        digests = json.loads((path / MANIFEST).read_bytes())
        found = {name: hashlib.sha256((path / name).read_bytes()).hexdigest() for name in (WEIGHTS, STATE)}
    except (OSError, ValueError):
        return False
    return bool(found == digests)


def numbered(folder: str) -> dict[int, Path]:
    """Number -> path of everything that has the name of a checkpoint; empty for a folder that is not there."""
    if not Path(folder).is_dir():
        return {}
    return {int(m[1]): path for path in Path(folder).iterdir() if (m := NAME.fullmatch(path.name))}


def latest_checkpoint(folder: str) -> str | None:
    """The path of the newest whole checkpoint, None if there is none. Changes nothing."""
    whole = {number: path for number, path in numbered(folder).items() if is_whole(path)}
    return str(whole[max(whole)]) if whole else None
