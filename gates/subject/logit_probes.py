"""Probes of a subject's `logits` verb, and its answers.

All probes go into one file, so that one fresh process answers them: cells it was not trained on (for the oracle),
pairs that differ only in the future (for causality), pairs that differ only in the padding (for the key mask). The
tokens of `live_logits.safetensors` are asked apart, in the shape in which the training process used them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fixtures.corpus.conjugation import Row
from gates.errors import GateError
from gates.subject import tensors
from gates.subject.process import Subject
from gates.subject.run_directory import RunDirectory
from honestloop.guarded_files import UnreadableError, read_regular
from reference import tokenizer
from reference.data import make_batch
from reference.tokenizer import CONTEXT, VOCAB_SIZE

CUTS = (1, 2, 7, 16, 25, 31)  # how many first tokens the two of a pair share
PAIRS_PER_CUT = 4
LIVE = "live_logits.safetensors"


@dataclass(frozen=True)
class Probes:
    """One array of tokens [N, 32] with its key mask; which rows are cells, and which rows are pairs up to where."""

    tokens: np.ndarray
    key_mask: np.ndarray
    cells: int
    future_pairs: list[tuple[int, int, int]]
    """Rows a and b must have equal logits at positions below the third number."""
    padding_pairs: list[tuple[int, int, int]]


@dataclass(frozen=True)
class Answers:
    """What a fresh process said: logits [N, 32, V] to the probes."""

    probes: Probes
    logits: np.ndarray


def probes_of(sequences: list[list[int]]) -> Probes:
    """Cells first, then the pairs. The pairs are the same in every session."""
    inputs, _, _, real = make_batch(sequences)
    rows = [np.zeros((len(inputs), CONTEXT), np.int64), np.zeros((len(inputs), CONTEXT), bool)]
    rows[0][:, : inputs.shape[1]], rows[1][:, : inputs.shape[1]] = inputs, real
    tokens, masks = list(rows[0]), list(rows[1])
    chance = np.random.default_rng(18)

    def add(row: np.ndarray, mask: np.ndarray) -> int:
        tokens.append(row)
        masks.append(mask)
        return len(tokens) - 1

    future, padding = [], []
    everything = np.ones(CONTEXT, bool)
    for cut in CUTS:
        first = np.arange(CONTEXT) < cut
        for _ in range(PAIRS_PER_CUT):
            a = chance.integers(1, VOCAB_SIZE, CONTEXT)
            b = np.where(first, a, (a + chance.integers(1, VOCAB_SIZE - 1, CONTEXT)) % VOCAB_SIZE)
            whole = add(a, everything)
            future.append((whole, add(b, everything), cut))
            short = add(np.where(first, a, 0), first)
            future.append((whole, short, cut))
            padding.append((short, add(np.where(first, a, b), first), cut))
    return Probes(np.array(tokens), np.array(masks), len(inputs), future, padding)


def probe(subject: Subject, run: RunDirectory, splits: Mapping[str, Sequence[Row]]) -> Answers:
    """Have a fresh process answer the probes."""
    learned = tokenizer.train_on_rows(splits["train"])
    asked = probes_of([ids for row in splits["val"] for ids in learned.encode_row(row)])
    return Answers(asked, _logits(subject, run, "probes", asked.tokens, asked.key_mask))


def repeat_live_logits(subject: Subject, run: RunDirectory) -> np.ndarray:
    """Have a fresh process compute what the training process computed: the live logits."""
    live = run.tensors(LIVE)
    return _logits(subject, run, "live", live["tokens"], live["key_mask"])


def _logits(
    subject: Subject, run: RunDirectory, name: str, tokens: np.ndarray, key_mask: np.ndarray
) -> np.ndarray:
    question, answer = (subject.home / f"{name}-{part}.safetensors" for part in ("asked", "said"))
    question.write_bytes(tensors.write({"tokens": tokens, "key_mask": key_mask}))
    subject.run("logits", "--run", run.path, "--tokens", question, "--out", answer).succeeded()
    try:
        logits = tensors.read(read_regular(answer, within=subject.home))["logits"]
    except (UnreadableError, KeyError, tensors.TensorFileError) as error:
        raise GateError(f"the answer of `logits` cannot be read ({error})") from None
    if logits.dtype != np.float64 or logits.shape != (*tokens.shape, VOCAB_SIZE):
        raise GateError(
            f"`logits` answered with {logits.dtype} {list(logits.shape)}, expected float64 [N, T, V]"
        )
    return logits
