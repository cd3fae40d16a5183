"""What a loop says of itself that the files of a run do not show: its conventions, and what its own generator drew.

Rows of an update are indices of the training sequences, in the order of the batch; sequence 2 c + d is direction d of
cell c of train.jsonl. They stand in the log, as `rows`, or are told by the verb `rows`. Masks are told by the verb
`masks`: for each site (reference/dropout.py) a bool [B, T, D] that says what dropout kept.
"""

import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gates.errors import GateError
from gates.subject import tensors
from gates.subject.process import Finished
from gates.subject.run_directory import RunDirectory
from honestloop.conventions import Conventions
from honestloop.guarded_files import UnreadableError, printable, read_regular

Masks = Mapping[int, np.ndarray]

_number = itertools.count()


@dataclass(frozen=True, eq=False)
class Declared:
    """Conventions, and how rows and masks are asked for; the answers about masks are kept."""

    conventions: Conventions = field(default_factory=Conventions)
    offers: frozenset[str] = frozenset()
    """Which of the verbs `rows` and `masks` there are."""
    ask: Callable[..., Finished] | None = None
    """(verb, values) -> how it ended."""
    answers: Path | None = None
    """A folder for what is answered."""
    _known: dict[tuple[Path, int], Masks] = field(default_factory=dict, repr=False)

    @property
    def own_generator(self) -> bool:
        """Whether masks and orders are not those of the specification."""
        return self.conventions.generator == "own"

    def rows(self, run: RunDirectory) -> list[Any]:
        """What each update of the log is said to have seen; not looked at yet. GateError if nothing says it."""
        said = [line.get("rows") for line in run.log]
        if None not in said or "rows" not in self.offers:
            return said
        updates = range(1, len(run.log) + 1)
        told = json.loads(self._answer("rows", run, updates=",".join(map(str, updates))))
        return [told.get(str(update)) for update in updates]

    def masks(self, run: RunDirectory, update: int) -> Masks:
        """Site -> what dropout kept, bool [B, T, D]. GateError if it cannot be asked, or the answer is none."""
        key = run.path, update
        if key not in self._known:
            data = self._answer("masks", run, update=update)
            try:
                told = tensors.read(data)
                self._known[key] = {int(site): kept for site, kept in told.items()}
            except ValueError as error:
                raise GateError(f"the answer of `masks` for update {update}: {error}") from None
        return self._known[key]

    def _answer(self, verb: str, run: RunDirectory, **values: object) -> bytes:
        if self.ask is None or self.answers is None or verb not in self.offers:
            raise GateError(
                f"a generator of its own is judged by what it declares: there is no verb `{verb}` in the description"
            )
        self.answers.mkdir(parents=True, exist_ok=True)
        path = self.answers / f"{verb}-{next(_number)}"
        self.ask(verb, run=run.path, out=path, **values).succeeded()
        try:
            data = read_regular(path)
            path.unlink()
        except (UnreadableError, OSError) as error:
            raise GateError(f"`{verb}` left no answer: {printable(error)}") from None
        return data


SPECIFIED = Declared()
"""A loop that follows the specification: nothing has to be asked."""
