"""A run directory: made before the first step, reopened on resume, never overwritten."""

import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from impl import config as configuration
from impl.config import Config
from impl.data.corpus import Corpus, load_corpus
from impl.data.tokenizer import Tokenizer, load_tokenizer, train_tokenizer
from impl.errors import UsageError
from impl.model.parameters import parameter_count
from impl.run import manifest as manifests
from impl.run.files import atomic_write, fsync_directory, read_json, sha256_file, write_json
from impl.run.manifest import Manifest

MANIFEST, CONFIG, DATA, TOKENIZER = "manifest.json", "config.toml", "data.json", "tokenizer.json"
LOG, CHECKPOINTS, RESULTS = "train_log.jsonl", "checkpoints", "results.json"
BEST = "best"
"""The folder with the checkpoint of the lowest validation loss, if it is kept."""

Sequences = list[list[int]]


@dataclass(frozen=True)
class Run:
    """What a run is made of, resolved: settings, data as token sequences, and the manifest that names them."""

    path: Path
    config: Config
    corpus: Corpus
    tokenizer: Tokenizer
    sequences: dict[str, Sequences]
    manifest: Manifest

    def on(self, corpus: Corpus) -> "Run":
        """The same run with another corpus, for scoring."""
        return replace(self, corpus=corpus, sequences=encode(corpus, self.tokenizer, self.config))

    @property
    def finished(self) -> bool:
        """Whether results.json, the last file of a run, is there."""
        return (self.path / RESULTS).exists()


def create(path: Path, data: Path, config: Config, command_line: Sequence[str]) -> Run:
    """Check all input, then make the directory, under a temporary name until its manifest is on the disk.

    Raises UsageError if the directory has anything in it, or if settings and data cannot be used.
    """
    corpus = load_corpus(data)
    tokenizer = train_tokenizer(corpus.splits["train"])
    sequences = encode(corpus, tokenizer, config)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.absolute().with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UsageError(f"{path}: exists already; continue it with --resume or choose another --out")
    try:
        temporary.mkdir()
        manifest = _write_first_files(temporary, corpus, tokenizer, config, command_line)
        temporary.rename(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    fsync_directory(path.parent)
    return Run(path, config, corpus, tokenizer, sequences, manifest)


def _write_first_files(
    path: Path, corpus: Corpus, tokenizer: Tokenizer, config: Config, command_line: Sequence[str]
) -> Manifest:
    """What a run directory has before the first step; the manifest last."""
    atomic_write(path / TOKENIZER, tokenizer.to_json().encode())
    atomic_write(path / CONFIG, config.to_toml().encode())
    ids = {name: [row.id for row in rows] for name, rows in corpus.splits.items()}
    write_json(path / DATA, {"path": str(corpus.path.resolve()), "files": corpus.files, "splits": ids})
    manifest = manifests.build(config, corpus, path / TOKENIZER, command_line, parameter_count(config.model))
    manifests.write(path / MANIFEST, manifest)
    return manifest


def reopen(path: Path, data: Path | None = None, config_file: Path | None = None, **overrides: Any) -> Run:
    """A run directory as it was made. Options may repeat its settings, not change them.

    Raises UsageError if it is not a run directory, or if settings, data or tokenizer are not the ones it began with.
    """
    if not (path / MANIFEST).exists():
        raise UsageError(f"{path}: not a run directory (it has no {MANIFEST})")
    manifest = manifests.load(path / MANIFEST)
    config = configuration.load(path / CONFIG)
    if config.as_dict() != manifest.config:
        raise UsageError(f"{path / CONFIG}: not the configuration in {MANIFEST}")
    asked = configuration.load(config_file or path / CONFIG, **overrides)
    if asked != config:
        key = next(key for key, value in asked.as_dict().items() if value != config.as_dict()[key])
        raise UsageError(f"{path}: began with {key} = {config.as_dict()[key]}, not {asked.as_dict()[key]}")
    corpus = load_corpus(data or Path(read_json(path / DATA)["path"]))
    if {name: file["sha256"] for name, file in corpus.files.items()} != manifest.corpus:
        raise UsageError(f"{corpus.path}: not the data that {path} began with")
    if sha256_file(path / TOKENIZER) != manifest.tokenizer_sha256:
        raise UsageError(f"{path / TOKENIZER}: not the tokenizer that {path} began with")
    tokenizer = load_tokenizer(path / TOKENIZER)
    return Run(path, config, corpus, tokenizer, encode(corpus, tokenizer, config), manifest)


def encode(corpus: Corpus, tokenizer: Tokenizer, config: Config) -> dict[str, Sequences]:
    """Two token sequences a row, one a direction. Raises UsageError if one is longer than the model's context."""
    sequences = {
        name: [ids for row in rows for ids in tokenizer.encode_row(row)]
        for name, rows in corpus.splits.items()
    }
    longest = max(len(ids) for split in sequences.values() for ids in split) - 1
    if longest > config.model.context:
        raise UsageError(
            f"{corpus.path}: a sequence has {longest} tokens, the model's context is {config.model.context}"
        )
    return sequences


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Keep other processes out of a run directory; the lock dies with the process that holds it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise UsageError(f"{path}: another process is training there") from None
    finally:
        os.close(descriptor)
