"""Checks of the manifest gate: the manifest is valid, and every fact in it is a fact.

Facts of the machine and of the installed packages are read here independently, in the same interpreter that runs the
subject; facts of the run are recomputed from its files.
"""

import hashlib
import json
import platform
import re
import tomllib
from collections.abc import Sequence
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
import rfc8785

from gates.errors import GateError
from gates.judge import scoring
from gates.subject.git import Git
from gates.subject.run_directory import RunDirectory
from gates.subject.training_runs import Trained
from gates.verdict.finding import Finding, Problem, no_problems
from honestloop import schemas
from honestloop.guarded_files import sha256_regular
from reference import model
from reference.philox import stream_key

PHILOX, STREAMS = "philox4x32-10", ("init", "data", "control")
ACCELERATORS = {
    "cuda": Path("/proc/driver/nvidia/gpus"),
    "gpu": Path("/proc/driver/nvidia/gpus"),
    "rocm": Path("/dev/kfd"),
    "xpu": Path("/dev/dri"),
    "tpu": Path("/dev/accel0"),
}
"""Kind of a device, and what the system shows where there is one."""


def valid(run: RunDirectory) -> Finding:
    """manifest.json has the fields of its schema, honestloop/schemas/phase18_manifest.json."""
    problems = [
        Problem(f"manifest.json: {deviation.field or 'the object'}", deviation.found, deviation.expected)
        for deviation in schemas.deviations("phase18_manifest", run.json("manifest.json"))
    ]
    return no_problems("manifest/schema", problems, of=f"{len(run.json('manifest.json'))} fields")


def _said(run: RunDirectory) -> dict[str, Any]:
    """The manifest. GateError, naming the field, if it has not the form that `valid` demands."""
    said = run.json("manifest.json")
    for deviation in schemas.deviations("phase18_manifest", said):
        found, expected = deviation.found, deviation.expected
        raise GateError(
            f"run directory: manifest.json: {deviation.field}: found {found}, expected {expected}"
        )
    return dict(said)


def hashes(run: RunDirectory, data: Path) -> Finding:
    """Hashes of configuration, corpus and tokenizer, recomputed; and the configuration is the one in config.toml."""
    said = _said(run)
    config = tomllib.loads(run.read("config.toml").decode("utf-8"))
    corpus = {path.name: sha256_regular(path) for path in data.glob("*.jsonl")}
    expected: dict[str, tuple[Any, Any]] = {
        "config": (said["config"], {**config, "seed": str(config["seed"])}),
        "config_sha256": (said["config_sha256"], _sha256(rfc8785.dumps(said["config"]))),
        "corpus": (said["corpus"], corpus),
        "tokenizer_sha256": (said["tokenizer_sha256"], _sha256(run.read("tokenizer.json"))),
    }
    return _equal("manifest/hashes", expected, of=f"{len(corpus) + 2} hashes")


def git(run: RunDirectory, states: Sequence[Git]) -> Finding:
    """Commit, dirty flag and hash of the diff, as git tells them: before the run, or after it."""
    said = _said(run)["git"]
    names = ("sha", "dirty", "diff_sha256")
    before = states[0]
    state = next((s for s in states if all(said.get(n) == getattr(s, n) for n in names)), before)
    expected = {f"git.{name}": (said.get(name), getattr(state, name)) for name in names}
    commit = (
        f"commit {before.sha[:12]}, {'dirty' if before.dirty else 'clean'}" if before.sha else "no commit"
    )
    return _equal("manifest/git", expected, of=commit)


def packages(run: RunDirectory) -> Finding:
    """Every installed distribution, with its version, and no other."""
    said = {_normal(name): version for name, version in _said(run)["packages"].items()}
    real = {_normal(d.metadata["Name"]): d.version for d in metadata.distributions() if d.metadata["Name"]}
    expected = {f"packages.{name}": (said.get(name), real.get(name)) for name in sorted({*said, *real})}
    return _equal("manifest/packages", expected, of=f"{len(real)} packages")


def machine(run: RunDirectory) -> Finding:
    """Python, operating system, processor, cores, memory, BLAS, devices and every library that is named, read again."""
    said = _said(run)
    expected: dict[str, tuple[Any, Any]] = {
        "cores.logical": (said["cores"]["logical"], psutil.cpu_count()),
        "cores.physical": (said["cores"]["physical"], psutil.cpu_count(logical=False)),
        "memory_bytes": (said["memory_bytes"], psutil.virtual_memory().total),
        **_libraries(said),
        **_devices(said),
    }
    for field, word in {
        "python": platform.python_version(),
        "os": platform.system(),
        "cpu_model": _cpu_model() or said["cpu_model"],
    }.items():
        expected[field] = (said[field], said[field] if word in said[field] else f"something that says {word}")
    threads = [library["num_threads"] for library in said["blas"]]
    expected["blas"] = (
        said["blas"],
        said["blas"] if threads and min(threads) > 0 else "a BLAS with its thread count",
    )
    return _equal("manifest/machine", expected, of=f"{len(expected)} facts")


def run_facts(trained: Trained, generator: str = "philox") -> Finding:
    """What was run, when, from which seed, on which model, with which loss.

    `generator` is the one that the subject declares, of the table in honestloop/conventions.py.
    """
    said = _said(trained.run)
    seed = said["config"]["seed"]
    started = datetime.fromisoformat(said["started_at"])
    expected: dict[str, tuple[Any, Any]] = {
        "command_line": (said["command_line"][-len(trained.arguments) :], list(trained.arguments)),
        "seed": (said["seed"], seed),
        **_generator(said["rng"], generator, int(seed)),
        "dtype": (said["dtype"], said["config"]["dtype"]),
        "n_parameters": (said["n_parameters"], model.parameter_count(scoring.CONFIG)),
        "started_at": (
            said["started_at"],
            said["started_at"]
            if _around(trained.began, started, trained.ended)
            else f"after {trained.began}",
        ),
    }
    for name in ("results.json", trained.run.last_checkpoint() + "/manifest.json"):
        expected[f"run_id, as in {name}"] = (trained.run.json(name)["run_id"], said["run_id"])
    return _equal("manifest/run", expected, of=f"{len(expected)} facts")


def _generator(said: dict[str, Any], declared: str, seed: int) -> dict[str, tuple[Any, Any]]:
    """Its name, and of Philox the keys of its streams: what another generator has is its own."""
    name = said["algorithm"]
    if declared == "own":
        due = f"not {PHILOX}: the subject declares a generator of its own" if name == PHILOX else name
        return {"rng.algorithm": (name, due)}
    words = {stream: stream_key(seed, stream) for stream in STREAMS}
    keys = {
        stream: b"".join(word.to_bytes(4, "little") for word in key).hex() for stream, key in words.items()
    }
    return {"rng.algorithm": (name, PHILOX), "rng.streams": (said.get("streams"), keys)}


def _libraries(said: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Every object that tells a version, under the name of a distribution: the one that is installed."""
    named = {
        name: entry["version"]
        for name, entry in said.items()
        if isinstance(entry, dict) and "version" in entry
    }
    installed = {
        _normal(d.metadata["Name"]): d.version for d in metadata.distributions() if d.metadata["Name"]
    }
    return {
        f"{name}.version": (version, installed.get(_normal(name), "not installed"))
        for name, version in named.items()
    }


def _devices(said: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Devices that are claimed are there: "cpu", or a kind of accelerator that the system shows."""
    facts: dict[str, tuple[Any, Any]] = {}
    claimed = {f"devices[{number}]": device for number, device in enumerate(said.get("devices", ()))}
    claimed |= {"device": said["device"]} if "device" in said else {}
    for field, device in claimed.items():
        kind = re.split(r"[^a-z]", device.lower(), maxsplit=1)[0]
        there = kind == "cpu" or (kind in ACCELERATORS and ACCELERATORS[kind].exists())
        there = there or (kind == "mps" and platform.system() == "Darwin")
        facts[field] = (device, device if there else "a device of this machine")
    return facts


def written_first(trained: Trained, killed: RunDirectory) -> Finding:
    """Whole when the first step was logged, and the same bytes at the end; whole in a run killed at that moment."""
    expected: dict[str, tuple[Any, Any]] = {}
    final = trained.run.read("manifest.json")
    if trained.early_manifest != final:
        got = "no manifest" if trained.early_manifest is None else "other bytes"
        expected["when step 1 was logged, before the run went on"] = (got, "the bytes of the end")
    return _equal("manifest/first", expected | _killed(killed, json.loads(final).keys()), of="2 runs")


def written_when_killed(killed: RunDirectory, fields: Sequence[str]) -> Finding:
    """The second half of `written_first`, for a run that is only killed."""
    return _equal("manifest/first", _killed(killed, fields), of="1 run")


def _killed(killed: RunDirectory, fields: Any) -> dict[str, tuple[Any, Any]]:
    steps = killed.logged_steps()
    place = f"in a run killed after step {steps}: before the first step, manifest.json"
    try:
        missing = sorted(set(fields) - set(killed.json("manifest.json")))
    except GateError as error:
        return {place: (str(error), "a whole manifest")}
    return {place: (f"without {missing}" if missing else "whole", "whole")}


def _equal(where: str, expected: dict[str, tuple[Any, Any]], *, of: str) -> Finding:
    problems = [
        Problem(f"manifest.json: {field}", _shown(got), _shown(real))
        for field, (got, real) in expected.items()
        if got != real
    ]
    return no_problems(where, problems, of=of)


def _around(began: datetime, moment: datetime, ended: datetime) -> bool:
    """Between the two, to the millisecond that a manifest gives."""
    return began.replace(microsecond=began.microsecond // 1000 * 1000) <= moment <= ended


def _cpu_model() -> str | None:
    try:
        found = re.search(
            r"^model name\s*:\s*(.+?)\s*$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE
        )
    except OSError:
        return None
    return found[1] if found else None


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
