"""What a run was: every fact needed to repeat it or to explain why it cannot be repeated, on disk before step 1.

`Manifest` defines manifest.json: `build`, `write`, `load`. `python -m impl.run.manifest` prints its JSON Schema.
"""

import json
import os
import platform
import re
import subprocess
import sys
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numba
import psutil
import threadpoolctl
from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, ValidationError

from impl import rng
from impl.config import Config
from impl.data.corpus import Corpus
from impl.errors import UsageError
from impl.run.files import canonical_json, read_json, sha256_bytes, sha256_file, write_json

SCHEMA: Final = "honestloop/manifest/v1"
LOSS_REDUCTION = (
    "sum of the negative log-likelihoods (nats) of the tokens whose loss mask is true, divided by the number of "
    "those tokens in the batch; 0 for a batch that has none"
)

Text = Annotated[str, StringConstraints(min_length=1)]
Count = Annotated[int, Field(gt=0)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
GitSha = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})$")]
Key = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{2})+$")]
RunId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
Decimal = Annotated[str, StringConstraints(pattern=r"^(0|[1-9][0-9]*)$")]
Instant = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")]


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Streams(_Facts):
    """Key of each named random stream, hexadecimal, byte by byte."""

    init: Key
    data: Key
    control: Key


class Rng(_Facts):
    """The counter-based random generator and the keys of its streams."""

    algorithm: Text
    streams: Streams


class Git(_Facts):
    """Source state; every field is null outside a git work tree or before its first commit.

    `dirty` counts untracked files as well; `diff_sha256` is of the bytes of `git diff HEAD --binary`, which
    does not show those.
    """

    sha: GitSha | None
    dirty: bool | None
    diff_sha256: Sha256 | None


class Cores(_Facts):
    """Processor cores; null where the system does not tell."""

    physical: Count | None
    logical: Count | None


class ThreadPool(_Facts):
    """One BLAS or OpenMP library loaded in the process, as threadpoolctl reports it."""

    user_api: Text
    internal_api: Text
    prefix: Text
    filepath: Text
    version: str | None
    num_threads: Count
    threading_layer: str | None
    architecture: str | None


class Numba(_Facts):
    """Numba's version, the library that runs its threads, and how many it would use."""

    version: Text
    threading_layer: Text
    threads: Count


class Manifest(_Facts):
    """manifest.json of a run directory. A seed is text because JSON numbers are exact only up to 2^53."""

    model_config = ConfigDict(title=SCHEMA, serialize_by_alias=True, validate_by_name=True)

    schema_id: Annotated[Literal["honestloop/manifest/v1"], Field(alias="schema")]
    run_id: RunId
    command_line: Annotated[list[str], Field(min_length=1)]
    started_at: Instant
    seed: Decimal
    rng: Rng
    config: dict[str, JsonValue]
    config_sha256: Sha256
    corpus: Annotated[dict[str, Sha256], Field(min_length=1)]
    tokenizer_sha256: Sha256
    git: Git
    packages: Annotated[dict[str, Text], Field(min_length=1)]
    python: Text
    os: Text
    cpu_model: Text
    cores: Cores
    memory_bytes: Count
    blas: list[ThreadPool]
    numba: Numba
    dtype: Literal["float32", "float64"]
    loss_reduction: Text
    n_parameters: Count


def build(
    config: Config, corpus: Corpus, tokenizer_path: Path, command_line: Sequence[str], n_parameters: int
) -> Manifest:
    """The facts of a run about to start, under a new random run id."""
    settings = config.as_dict()
    return Manifest(
        schema_id=SCHEMA,
        run_id=uuid.uuid4().hex,
        command_line=list(command_line),
        started_at=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        seed=settings["seed"],
        rng=_random_streams(config.seed),
        config=settings,
        config_sha256=sha256_bytes(canonical_json(settings)),
        corpus={name: facts["sha256"] for name, facts in corpus.files.items()},
        tokenizer_sha256=sha256_file(tokenizer_path),
        git=_git_state(Path(__file__).resolve().parents[2]),
        packages=_installed_packages(),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        os=platform.platform(),
        cpu_model=_cpu_model(),
        cores=Cores(physical=psutil.cpu_count(logical=False), logical=psutil.cpu_count()),
        memory_bytes=psutil.virtual_memory().total,
        numba=_numba_threads(),
        blas=_thread_pools(),
        dtype=config.dtype,
        loss_reduction=loss_reduction(config),
        n_parameters=n_parameters,
    )


def loss_reduction(config: Config) -> str:
    """What an update minimises, in words; of the default configuration LOSS_REDUCTION alone."""
    said = [LOSS_REDUCTION]
    if config.accumulate > 1:
        said.append(
            f"an update is the mean over the tokens of its window of {config.accumulate} batches; those left over at "
            f"the end of an epoch: {config.leftover}"
        )
    if config.model.softcap:
        said.append(f"logits are {config.model.softcap} tanh(z / {config.model.softcap})")
    if config.loss.label_smoothing or config.loss.z_loss:
        said.append(
            f"minimised per token: cross-entropy with label smoothing {config.loss.label_smoothing}, plus "
            f"{config.loss.z_loss} (log sum exp)^2; the loss that is logged has neither"
        )
    return "; ".join(said)


def write(path: Path, manifest: Manifest) -> None:
    """Write manifest.json, whole or not at all."""
    write_json(path, manifest.model_dump(mode="json", by_alias=True))


def load(path: Path) -> Manifest:
    """The manifest in `path`. Raises UsageError naming the file and the field that is wrong."""
    try:
        return Manifest.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{path}: {field}: {first['msg']}") from None


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of manifest.json."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Manifest.model_json_schema()}


def _random_streams(seed: int) -> Rng:
    keys = {stream: rng.stream_key(seed, stream).astype("<u4").tobytes().hex() for stream in rng.STREAMS}
    return Rng(algorithm=rng.ALGORITHM, streams=Streams(**keys))


def _git_state(root: Path) -> Git:
    status = _git(root, "status", "--porcelain=v2", "--branch")
    diff = _git(root, "diff", "HEAD", "--binary")
    if status is None or diff is None:
        return Git(sha=None, dirty=None, diff_sha256=None)
    lines = status.decode(errors="replace").splitlines()
    sha = next(line.removeprefix("# branch.oid ") for line in lines if line.startswith("# branch.oid "))
    return Git(sha=sha, dirty=any(not line.startswith("#") for line in lines), diff_sha256=sha256_bytes(diff))


def _git(root: Path, *arguments: str) -> bytes | None:
    """Output of a git command that takes no lock, or None where it cannot work."""
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(["git", *arguments], cwd=root, env=environment, capture_output=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


_NAME, _VERSION = re.compile(r"^Name:[ \t]*(\S+)", re.M), re.compile(r"^Version:[ \t]*(\S+)", re.M)


def _installed_packages() -> dict[str, str]:
    """Name -> version. `package.metadata` would parse descriptions and licences too, and take ten times as long."""
    found = {}
    for package in metadata.distributions():
        text = next(filter(None, map(package.read_text, ("METADATA", "PKG-INFO", ""))), "")
        header = text.partition("\n\n")[0]  # before the description
        name, version = _NAME.search(header), _VERSION.search(header)
        if name and version:
            found[name[1]] = version[1]
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def _cpu_model() -> str:
    """The processor's own name. Linux tells at once; cpuinfo, which knows the other systems, takes a second."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    if names and names[0]:
        return names[0]
    import cpuinfo

    return str(cpuinfo.get_cpu_info().get("brand_raw") or platform.machine())


def _numba_threads() -> Numba:
    """The threading layer numba has chosen: asking for the thread count makes it choose (20 ms)."""
    try:
        threads = numba.get_num_threads()
    except ValueError as error:
        raise UsageError(f"numba cannot start threads: {str(error).splitlines()[0]}") from None
    return Numba(version=numba.__version__, threading_layer=numba.threading_layer(), threads=threads)


def _thread_pools() -> list[ThreadPool]:
    return [
        ThreadPool(**{name: entry.get(name) for name in ThreadPool.model_fields})
        for entry in threadpoolctl.threadpool_info()
    ]


if __name__ == "__main__":
    json.dump(json_schema(), sys.stdout, indent=2)
    print()
