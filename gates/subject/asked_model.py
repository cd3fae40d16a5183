"""A subject's own model, asked: logits, losses, rows, masks, ids of texts. By commands, or by one warm process.

Tensors travel as safetensors, everything else as JSON. What comes back is read strictly; what is not of the agreed form
is a GateError, one line that names the verb.
"""

import itertools
import json
import math
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gates.errors import GateError
from gates.subject import tensors
from gates.subject.commanded import CommandedSubject
from gates.subject.warm_process import WarmProcess
from honestloop import guarded_files

WEIGHTS_AT_ONCE = 256 << 20
"""Bytes of weights in one question: files beyond it are the next question's."""
LOGITS_AT_ONCE = 128 << 20
"""Bytes of logits in one answer."""
Tensors = Mapping[str, np.ndarray]
Ask = Callable[[str, Mapping[str, str]], None]


@dataclass
class AskedModel:
    """Questions to the model of one subject. `home` is where questions and answers are written."""

    ask: Ask
    home: Path
    timeout: float = 300.0
    vocab_size: int | None = None
    """What the first logits had."""
    _numbers: Iterator[int] = field(default_factory=itertools.count, repr=False)

    def logits(self, run: Path, tokens: np.ndarray, key_mask: np.ndarray) -> np.ndarray:
        """The logits [N, T, V], float64, of the last checkpoint of a run, at tokens [N, T] with their key mask."""
        return np.concatenate(list(self.each_logits(run, tokens, key_mask)))

    def each_logits(self, run: Path, tokens: np.ndarray, key_mask: np.ndarray) -> Iterator[np.ndarray]:
        """The same in parts, one after the other: no answer is larger than LOGITS_AT_ONCE, the first is one row."""
        start = 0
        while start < len(tokens):
            size = 8 * tokens.shape[1] * (self.vocab_size or LOGITS_AT_ONCE)
            chosen = slice(start, start + max(1, LOGITS_AT_ONCE // size))
            yield self._logits(run, tokens[chosen], key_mask[chosen])
            start = chosen.stop

    def _logits(self, run: Path, tokens: np.ndarray, key_mask: np.ndarray) -> np.ndarray:
        with self._folder() as folder:
            asked, said = folder / "tokens.safetensors", folder / "logits.safetensors"
            asked.write_bytes(tensors.write({"tokens": tokens.astype(np.int64), "key_mask": key_mask}))
            self.ask("logits", {"run": str(run), "tokens": str(asked), "out": str(said)})
            logits = _tensors("logits", said).get("logits")
        if logits is None:
            raise GateError("`logits` answered with no tensor `logits`")
        if logits.dtype != np.float64 or logits.ndim != 3 or logits.shape[:2] != tokens.shape:
            raise GateError(
                f"`logits` answered with {logits.dtype} {list(logits.shape)}, expected float64 "
                f"[{tokens.shape[0]}, {tokens.shape[1]}, V]"
            )
        if self.vocab_size not in (None, logits.shape[2]):
            raise GateError(
                f"`logits` answered for {logits.shape[2]} tokens, before that for {self.vocab_size}"
            )
        self.vocab_size = logits.shape[2]
        return logits

    def losses(self, run: Path, weights: Iterable[Tensors], batch: Mapping[str, Any]) -> list[float]:
        """The loss of the batch at each of the weights, in order; as many files a question as WEIGHTS_AT_ONCE holds."""
        found: list[float] = []
        rest = iter(weights)
        while True:
            with self._folder() as folder:
                names = _written(folder / "weights", rest)
                if not names:
                    return found
                said = folder / "losses.json"
                (folder / "batch.json").write_text(json.dumps(batch), encoding="utf-8")
                values = {
                    "weights": folder / "weights",
                    "batch": folder / "batch.json",
                    "out": said,
                    "run": run,
                }
                self.ask("loss", {**{k: str(v) for k, v in values.items()}, "dtype": "float64"})
                found += _losses(_json("loss", said), names)

    def rows(self, run: Path, updates: Sequence[int]) -> dict[int, list[int]]:
        """Update -> the training rows that it saw."""
        with self._folder() as folder:
            asked, said = folder / "updates.json", folder / "rows.json"
            asked.write_text(json.dumps(list(updates)), encoding="utf-8")
            self.ask("rows", {"run": str(run), "updates": str(asked), "out": str(said)})
            answer = _json("rows", said)
        if not isinstance(answer, dict) or answer.keys() != {str(u) for u in updates}:
            raise GateError(f"`rows` did not answer with an object of the updates {list(updates)}")
        return {int(update): natural_numbers("rows", rows) for update, rows in answer.items()}

    def masks(self, run: Path, update: int) -> dict[str, np.ndarray]:
        """What dropout kept in an update, by site."""
        with self._folder() as folder:
            said = folder / "masks.safetensors"
            self.ask("masks", {"run": str(run), "update": str(update), "out": str(said)})
            found = _tensors("masks", said)
        if wrong := [name for name, mask in found.items() if mask.dtype != np.bool_]:
            raise GateError(
                f"`masks` answered with {wrong[0]!r} of {found[wrong[0]].dtype}, expected booleans"
            )
        return found

    def encode(self, run: Path, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text."""
        answer = self._list("encode", run, "texts", list(texts))
        return [natural_numbers("encode", ids) for ids in answer]

    def decode(self, run: Path, ids: Sequence[Sequence[int]]) -> list[str]:
        """The text of each list of ids."""
        answer = self._list("decode", run, "ids", [list(one) for one in ids])
        if not all(isinstance(text, str) for text in answer):
            raise GateError("`decode` did not answer with texts alone")
        return answer

    def _list(self, verb: str, run: Path, name: str, given: list[Any]) -> list[Any]:
        with self._folder() as folder:
            asked, said = folder / f"{name}.json", folder / "answer.json"
            asked.write_text(json.dumps(given, ensure_ascii=False), encoding="utf-8")
            self.ask(verb, {"run": str(run), name: str(asked), "out": str(said)})
            answer = _json(verb, said)
        if not isinstance(answer, list) or len(answer) != len(given):
            raise GateError(f"`{verb}` did not answer with a list of {len(given)}, one for each")
        return answer

    @contextmanager
    def _folder(self) -> Iterator[Path]:
        """A folder for one question and its answer, gone after it."""
        folder = self.home / f"question-{next(self._numbers):05d}"
        (folder / "weights").mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def asked(subject: CommandedSubject) -> Iterator[AskedModel]:
    """The subject's model, answered by `serve` if there is one, by a command for each question otherwise."""
    description, home = subject.description, subject.home
    home.mkdir(parents=True, exist_ok=True)
    timeout = description.run.timeout
    if not description.offers("serve"):

        def command(verb: str, values: Mapping[str, str]) -> None:
            subject.ask(verb, **values).succeeded()

        yield AskedModel(command, home, timeout)
        return
    subject.asked.add("serve")
    errors = home / "serve.err"
    with WarmProcess(
        description.argv("serve"), folder=description.folder, errors=errors, timeout=timeout
    ) as warm:

        def served(verb: str, values: Mapping[str, str]) -> None:
            subject.asked.add(verb)
            warm.ask(verb, values)

        yield AskedModel(served, home, timeout)


def natural_numbers(verb: str, value: Any) -> list[int]:
    """The list. GateError unless it holds natural numbers alone."""
    if not isinstance(value, list) or not all(type(x) is int and x >= 0 for x in value):
        raise GateError(f"`{verb}` answered with {str(value)[:80]}, expected a list of natural numbers")
    return value


def _written(folder: Path, weights: Iterator[Tensors]) -> list[str]:
    """Names of the files, which hold the next of the weights, as many as fit."""
    names: list[str] = []
    size = 0
    while size < WEIGHTS_AT_ONCE and (one := next(weights, None)) is not None:
        data = tensors.write(dict(one))
        names.append(f"{len(names):05d}.safetensors")
        (folder / names[-1]).write_bytes(data)
        size += len(data)
    return names


def _losses(answer: Any, names: list[str]) -> list[float]:
    losses = answer.get("losses") if isinstance(answer, dict) else None
    if not isinstance(losses, dict) or losses.keys() != set(names):
        raise GateError('`loss` did not answer with {"losses": {file: number}}, one for each of the files')
    found = [losses[name] for name in names]
    if not all(isinstance(x, float | int) and not isinstance(x, bool) for x in found):
        raise GateError("`loss` answered with something that is not a number")
    return [float(x) if abs(x) < 1e300 else math.inf for x in found]


def _tensors(verb: str, path: Path) -> dict[str, np.ndarray]:
    try:
        return tensors.read(guarded_files.read_regular(path))
    except (guarded_files.UnreadableError, tensors.TensorFileError) as error:
        raise GateError(f"the answer of `{verb}` cannot be read ({error})") from None


def _json(verb: str, path: Path) -> Any:
    try:
        return guarded_files.read_json(path)
    except guarded_files.UnreadableError as error:
        raise GateError(f"the answer of `{verb}` cannot be read ({error})") from None
