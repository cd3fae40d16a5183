"""The definition of done, as data: every gate, and every check in it with the rule that a subject breaks if it fails.

The verdict is read against this table and the controls (fixtures/controls), not against what happened to run: a check
that is listed here and left no finding did not pass.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fixtures.controls.shared.table import Control, ControlError, read_all
from honestloop.description import Level


@dataclass(frozen=True)
class Gate:
    """One condition of the definition of done. The test file is `gates/test_<name>.py`."""

    name: str
    title: str
    checks: Mapping[str, str]
    """Check -> id of its rule (reference/rules.toml), which says what it establishes."""
    levels: frozenset[Level] = frozenset({Level.PHASE_18})
    """The levels at which it is a condition."""


EVERY_LEVEL = frozenset(Level)
BELOW_PHASE_18 = EVERY_LEVEL - {Level.PHASE_18}
PROPERTIES = "properties"
"""The gate that is asked wherever the subject has an adapter."""
DECLARED = "declared"
"""The gate that is asked of a loop whose generator is not that of the specification."""
RATIO_LIMIT = 0.7

GATES = (
    Gate(
        "perplexity",
        "Perplexity",
        {
            "committed": "PPL-02",
            "blind": "PPL-02",
            "scorer": "PPL-01",
            "causality": "MODEL-05",
            "padding": "MODEL-06",
            "oracle": "MODEL-04",
            "split": "DATA-06",
            "overlap": "DATA-07",
            "reported": "PPL-03",
            "tokenizer": "PPL-04",
        },
    ),
    Gate(
        "update",
        "Every update is the formula",
        {
            "init": "UPDATE-09",
            "log": "UPDATE-01",
            "moments": "UPDATE-02",
            "weights": "UPDATE-03",
            "schedule": "UPDATE-04",
            "data": "UPDATE-05",
            "evaluation": "UPDATE-06",
            "cadence": "UPDATE-07",
            "finite": "UPDATE-08",
        },
    ),
    Gate(DECLARED, "What its own generator draws", {"rows": "DECL-01", "masks": "DECL-02"}),
    Gate(
        "whole_run",
        "The whole run is the formula",
        {
            "lines": "AUDIT-01",
            "optimizer": "AUDIT-06",
            "replay": "AUDIT-02",
            "evaluations": "AUDIT-03",
            "totals": "AUDIT-04",
            "micro_batches": "AUDIT-05",
        },
    ),
    Gate(
        "resume",
        "Resume is bit-identical",
        {
            "rerun": "RESUME-01",
            "cuts": "RESUME-02",
            # Where the run is stopped (gates/subject/interrupted_runs.py).
            **dict.fromkeys(
                ("first-step", "warm-up", "mid-epoch", "epoch-edge", "last-step", "twice"), "RESUME-03"
            ),
            "kill-early": "RESUME-04",  # before its first checkpoint
            "kill-late": "RESUME-04",  # after a checkpoint
            "terminate": "RESUME-05",
            "used": "RESUME-06",
            "corrupted": "RESUME-07",
        },
    ),
    Gate(
        "reload",
        "Reload",
        {"logits": "CKPT-01", "name": "CKPT-02", "tensors": "CKPT-03", "checkpoint": "CKPT-04"},
    ),
    Gate(
        "no_pickle",
        "No pickle",
        {"source": "CKPT-05", "artefacts": "CKPT-06", "process": "CKPT-07"},
    ),
    Gate(
        "manifest",
        "Manifest is valid and true",
        {
            "schema": "MAN-01",
            "hashes": "MAN-02",
            "git": "MAN-03",
            "packages": "MAN-04",
            "machine": "MAN-05",
            "run": "MAN-06",
            "first": "MAN-07",
        },
    ),
    Gate(
        "mlflow",
        "MLflow",
        {"run": "TRACK-01", "metrics": "TRACK-02", "parameters": "TRACK-03", "artefacts": "TRACK-04"},
    ),
    Gate(
        "drift",
        "Low-precision drift",
        {"report": "DRIFT-01", "errors": "DRIFT-02", "flips": "DRIFT-03"},
    ),
    Gate(
        "interruption",
        "An interrupted run is the run",
        {
            "rerun": "RESUME-01",
            "stop": "RESUME-03",
            "terminate": "CRASH-02",
            "kill": "RESUME-04",
            "events": "CRASH-01",
            "pickle": "CKPT-08",
        },
        BELOW_PHASE_18,
    ),
    Gate(
        "record",
        "The record of the run is true",
        {
            "log": "RECORD-01",
            "schedule": "RECORD-02",
            "declared": "RECORD-03",
            "tensors": "RECORD-04",
            "second_moment": "RECORD-05",
            "weights": "RECORD-06",
            "decay": "RECORD-07",
            "rate": "RECORD-08",
            "norm": "RECORD-09",
            "precision": "RECORD-10",
            "skipped": "RECORD-11",
            "cadence": "RECORD-12",
            "finite": "RECORD-13",
            "own_line": "RECORD-14",
            "late": "RECORD-15",
        },
        frozenset({Level.RECORD, Level.MODEL}),
    ),
    Gate(
        "model",
        "The model is a language model",
        {
            "normalised": "OWN-01",
            "causality": "OWN-02",
            "padding": "OWN-03",
            "tokenizer": "OWN-04",
            "perplexity": "OWN-05",
            "baseline": "OWN-06",
            "validation": "OWN-07",
            "loss": "OWN-08",
            "gradient": "OWN-09",
        },
        frozenset({Level.MODEL}),
    ),
    Gate(PROPERTIES, "The properties hold", {"adapter": "SUITE-02"}, EVERY_LEVEL),
    Gate("strength", "The suite kills mutants", {"mutants": "SUITE-01"}),
)


def gates_of(level: Level, *, adapter: bool = True, own_generator: bool = False) -> tuple[Gate, ...]:
    """The definition of done of a level; without what there is nothing to ask about."""
    left_out = {
        *(() if adapter else (PROPERTIES,)),
        *(() if own_generator else (DECLARED,)),
    }
    return tuple(g for g in GATES if level in g.levels and g.name not in left_out)


@cache
def controls() -> tuple[Control, ...]:
    """Every control, in the order of the checks that must refuse them, then by name.

    ControlError, one line that names the file, if one cannot be read or names no check.
    """
    order = [(gate.name, check) for gate in GATES for check in gate.checks]
    for c in read_all():
        if (c.gate, c.check) not in order:
            raise ControlError(f"fixtures/controls/{c.name}.py: there is no check {c.gate} / {c.check}")
    return tuple(sorted(read_all(), key=lambda c: (order.index((c.gate, c.check)), c.name)))


def controls_of(gate: str, *checks: str) -> list[Control]:
    """The controls that these checks of a gate must refuse; all checks if none is named."""
    return [c for c in controls() if c.gate == gate and (not checks or c.check in checks)]


def control(name: str) -> Control:
    """The control of that name. KeyError if there is none."""
    return {c.name: c for c in controls()}[name]


def rule_of(where: str) -> str | None:
    """The rule that "gate/check" checks; None if the definition knows no such check."""
    name, _, check = where.partition("/")
    return next((g.checks[check] for g in GATES if g.name == name and check in g.checks), None)


def gate_of(test_file: str) -> str | None:
    """The gate that a test file belongs to, if any: `test_resume.py` -> "resume"."""
    name = Path(test_file).stem.removeprefix("test_")
    return name if name in {g.name for g in GATES} else None
