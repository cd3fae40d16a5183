"""What a run was, on the disk before its first update: manifest.json."""

import os
import platform
import subprocess
import uuid
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
import rfc8785
import threadpoolctl

from torch_phase18.corpus import Corpus
from torch_phase18.files import sha256

LOSS_REDUCTION = "mean over the tokens of the batch whose mask is true, each weighing the same; nats"
PARAMETERS = 103_680


def build(config: dict[str, Any], corpus: Corpus, tokenizer: str, arguments: list[str]) -> dict[str, Any]:
    """The facts of a run that is about to begin, under a new run id. `tokenizer` is the hash of its file."""
    from torch_phase18 import chance  # which imports torch: not before the data were looked at

    return {
        "schema": "honestloop/manifest/v1",
        "run_id": uuid.uuid4().hex,
        "command_line": arguments,
        "started_at": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "seed": config["seed"],
        "rng": {"algorithm": chance.ALGORITHM, "seeding": chance.SEEDING},
        "config": config,
        "config_sha256": sha256(rfc8785.dumps(config)),
        "corpus": {name: file["sha256"] for name, file in corpus.files.items()},
        "tokenizer_sha256": tokenizer,
        "git": _git(),
        "packages": {d.metadata["Name"]: d.version for d in metadata.distributions() if d.metadata["Name"]},
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "os": platform.platform(),
        "cpu_model": _cpu(),
        "cores": {"physical": psutil.cpu_count(logical=False), "logical": psutil.cpu_count()},
        "memory_bytes": psutil.virtual_memory().total,
        "blas": _thread_pools(),
        "torch": {"version": metadata.version("torch"), "threads": 1},
        "device": "cpu",
        "dtype": config["dtype"],
        "loss_reduction": LOSS_REDUCTION,
        "n_parameters": PARAMETERS,
    }


def _git() -> dict[str, Any]:
    """The commit, whether anything differs from it, and the hash of the difference; null outside a work tree."""
    root, environment = Path(__file__).parent, {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    said = []
    for words in (["rev-parse", "HEAD"], ["rev-parse", "--show-toplevel"]):
        done = subprocess.run(["git", *words], cwd=root, env=environment, capture_output=True)
        said.append(done.stdout.decode().strip() if done.returncode == 0 else None)
    sha, top = said
    if sha is None or top is None:
        return {"sha": None, "dirty": None, "diff_sha256": None}
    status, diff = (
        subprocess.run(["git", *words], cwd=top, env=environment, capture_output=True).stdout
        for words in (["status", "--porcelain"], ["diff", "HEAD", "--binary"])
    )
    return {"sha": sha, "dirty": bool(status.strip()), "diff_sha256": sha256(diff)}


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(filter(None, names), platform.processor() or platform.machine())


def _thread_pools() -> list[dict[str, Any]]:
    """The BLAS and OpenMP libraries of the process, with their threads."""
    names = (
        "user_api",
        "internal_api",
        "prefix",
        "filepath",
        "version",
        "num_threads",
        "threading_layer",
        "architecture",
    )
    return [{name: pool.get(name) for name in names} for pool in threadpoolctl.threadpool_info()]
