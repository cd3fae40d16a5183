"""A run directory: made before the first update, reopened on resume, never overwritten."""

import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch_phase18 import config as settings
from torch_phase18 import corpus as corpora
from torch_phase18 import manifest as manifests
from torch_phase18 import tokenizer as tokens
from torch_phase18.corpus import Corpus
from torch_phase18.errors import UsageError
from torch_phase18.files import read_json, sha256, sync_folder, to_json, write_atomically

CONTEXT = 32
MANIFEST, CONFIG, DATA, TOKENIZER = "manifest.json", "config.toml", "data.json", "tokenizer.json"
LOG, CHECKPOINTS, RESULTS = "train_log.jsonl", "checkpoints", "results.json"


@dataclass(frozen=True)
class Run:
    """Settings, data as token sequences by split, and the manifest."""

    path: Path
    config: dict[str, Any]
    corpus: Corpus
    tokenizer: Any
    sequences: dict[str, list[list[int]]]
    manifest: dict[str, Any]

    @property
    def finished(self) -> bool:
        """Whether its last file is there."""
        return (self.path / RESULTS).exists()


def create(path: Path, data: Path, config: dict[str, Any], arguments: list[str]) -> Run:
    """Check all input, then make the directory. UsageError if it has anything in it."""
    corpus = corpora.load(data)
    tokenizer = tokens.learn(corpus.splits["train"])
    sequences = encode(corpus, tokenizer)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UsageError(f"{path}: exists already; continue it with --resume or choose another --out")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.absolute().with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    temporary.mkdir()
    try:
        learned = (tokenizer.to_str(pretty=True) + "\n").encode()
        write_atomically(temporary / TOKENIZER, learned)
        write_atomically(temporary / CONFIG, settings.to_toml(config))
        ids = {name: [row["id"] for row in rows] for name, rows in corpus.splits.items()}
        facts = {"path": str(corpus.path.resolve()), "files": corpus.files, "splits": ids}
        write_atomically(temporary / DATA, to_json(facts))
        manifest = manifests.build(config, corpus, sha256(learned), arguments)
        write_atomically(temporary / MANIFEST, to_json(manifest))
        temporary.rename(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(path.parent)
    return Run(path, config, corpus, tokenizer, sequences, manifest)


def reopen(path: Path, data: Path | None = None, file: Path | None = None, **given: Any) -> Run:
    """A run as it was made. UsageError if settings, data or tokenizer are not the ones that it began with."""
    if not (path / MANIFEST).exists():
        raise UsageError(f"{path}: not a run directory (it has no {MANIFEST})")
    manifest, config = read_json(path / MANIFEST), settings.load(path / CONFIG)
    asked = settings.load(file or path / CONFIG, **given)
    if manifest["config"] != config or asked != config:
        raise UsageError(f"{path}: these are not the settings that it began with")
    corpus = corpora.load(data or Path(read_json(path / DATA)["path"]))
    if {name: file["sha256"] for name, file in corpus.files.items()} != manifest["corpus"]:
        raise UsageError(f"{corpus.path}: not the data that {path} began with")
    if sha256((path / TOKENIZER).read_bytes()) != manifest["tokenizer_sha256"]:
        raise UsageError(f"{path / TOKENIZER}: not the tokenizer that {path} began with")
    tokenizer = tokens.read(path / TOKENIZER)
    return Run(path, config, corpus, tokenizer, encode(corpus, tokenizer), manifest)


def encode(corpus: Corpus, tokenizer: Any) -> dict[str, list[list[int]]]:
    """Token sequences by split. UsageError if one is longer than the model's context."""
    found = {name: tokens.sequences(tokenizer, rows) for name, rows in corpus.splits.items()}
    if max(len(ids) for split in found.values() for ids in split) > CONTEXT + 1:
        raise UsageError(f"{corpus.path}: a sequence is longer than {CONTEXT + 1} tokens")
    return found


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Keep other processes out; the lock dies with the process."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise UsageError(f"{path}: another process is training there") from None
    finally:
        os.close(descriptor)
