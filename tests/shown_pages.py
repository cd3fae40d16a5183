"""Runs, verdicts and gradings to show: usual ones, and ones in which every text is an attack on the page."""

import copy
import math
from collections.abc import Mapping
from typing import Any

from pages.run_data import RunData
from reference.rules import RULES

RULE_TEXTS = {rule.id: rule.texts for rule in RULES.values()}
ATTACKS = (
    "<script>document.title='run'</script>",
    "</style><img src=x onerror=alert(1)>",
    '" onload="alert(1)" x="',
    "' onfocus='alert(1)' autofocus='",
    "javascript:alert(1)",
    "<a href=javascript:alert(1)>x</a>",
    "]]><svg/onload=alert(1)>",
    "&lt;script&gt;&#x3c;b&#x3e;",
    "\u202e\u0000\ud800<base href=//a>",
)
BASELINE = {
    "kind": "kneser_ney",
    "n": 4,
    "parameter": 0.75,
    "val": {"ppl": 2.9663505607403744, "tokens": 1754},
}


def log(steps: int = 120) -> list[dict[str, Any]]:
    """A log with everything that a loop may write, and a number that nobody has heard of."""
    lines = []
    for step in range(1, steps + 1):
        line: dict[str, Any] = {
            "step": step,
            "epoch": step // 20,
            "loss": 4.0 / math.sqrt(step),
            "lr": 1e-3 * min(1.0, step / 10),
            "grad_norm": 1.0 + math.sin(step) / 4,
            "tokens": 500 + step % 7,
            "seconds": 0.25 * step,
            "experts_used": step % 5,
            "note": "text is no curve",
        }
        if step % 20 == 0:
            line |= {"val_loss": 4.1 / math.sqrt(step), "val_ppl": math.exp(4.1 / math.sqrt(step))}
        lines.append(line)
    return lines


def run() -> RunData:
    """A run with all of its files."""
    return RunData(
        "runs/first",
        log=log(),
        results={
            "steps": 120,
            "best_step": 120,
            "ratio": 0.5869210173885738,
            "perplexity": {"val": {"ppl": 1.741013489040907, "tokens": 1754, "hex": {"ppl": "0x1.bp+0"}}},
            "strongest_baseline": BASELINE,
            "baselines": [BASELINE, {**BASELINE, "n": 5}],
            "wall_seconds": 100.33013518700136,
            "peak_memory_bytes": 605241344,
            "training_flops": 1.25e12,
            "a_new_fact": "told by a later version",
        },
        manifest={
            "started_at": "2026-11-28T19:18:52.893Z",
            "seed": "0",
            "git": {"sha": "1c72fdba2162b48b2be2327439c0c9d98f65cce5", "dirty": True},
            "config": {"batch_size": 32, "optimizer": {"peak_lr": 0.004, "betas": [0.9, 0.95]}},
            "config_sha256": "bcaad184b7fce26492e9950a86a330dbc978ae4878ae4e9ef65616ce34b872b2",
            "packages": {"numpy": "2.4.6", "numba": "0.68.1"},
            "platform": {"processor": "AMD EPYC 7B13", "os": "Linux-6.1.0", "python": "CPython 3.11.7"},
        },
        drift={
            "rounded": "Only the weights are rounded.",
            "positions": 1754,
            "formats": {
                name: {
                    "relative_error": {"embed_out": e, "block_0_out": 1.2 * e, "logits": 1.1 * e},
                    "argmax_flips": 1,
                }
                for name, e in (("float16", 2.09e-4), ("bfloat16", 1.67e-3))
            },
        },
        samples=[
            {"source": "you have studied", "said": "tú has estudiado", "expected": "tú has estudiado"},
            {"source": "he lives", "said": "él vivió", "expected": "él vive"},
        ],
    )


def check(name: str, rule: str, verdict: str = "PASSED", **facts: Any) -> dict[str, Any]:
    """A check as verdict.json has it."""
    found = {"figure": "1 of 1", "threshold": "0", "margin": "exact"}
    statement = RULES[rule].statement
    return {"check": name, "rule": rule, "statement": statement, "verdict": verdict, **found, **facts}


FAILURE: dict[str, Any] = {
    "verdict": "FAILED",
    "threshold": "<= 1",
    "margin": "1.1e+06x",
    "share": 1.1e6,
    "problem": "update 7: 24 of 26 tensors, first w_q is not AdamW's (behaves like: epsilon before the correction)",
    "got": "0.00123",
    "expected": "0.00456, give or take 3e-09",
    "message": "GATE update / weights: ...",
}


def verdict() -> dict[str, Any]:
    """A verdict that failed, with something of every kind."""
    return {
        "subject": "my_pkg",
        "verdict": "FAILED",
        "interrupted": None,
        "file_problems": [],
        "level": {"number": 4, "name": "phase 18"},
        "started_at": "2026-11-29T01:34:00Z",
        "machine": "x86_64, 2 processors, Linux 6.1, Python 3.11.7",
        "not_offered": {"rows": "which rows each update was made of"},
        "declared_and_not_asked": ["evaluate"],
        "expected_failures": {"ACT-01": "the tanh form"},
        "expected_and_held": {},
        "gates": [
            gate("perplexity", check("committed", "PPL-02", share=0.839, margin="+0.11", threshold="<= 0.7")),
            gate(
                "update",
                check("moments", "UPDATE-02", share=0.01, margin="100x inside"),
                check("weights", "UPDATE-03", **FAILURE),
            ),
            gate("drift", {"check": "flips", "rule": "DRIFT-03", "statement": "flips", "verdict": "NOT RUN"}),
        ],
        "controls": [
            {
                "control": "l2_decay",
                "wrong": "decay in the gradient",
                "gate": "update",
                "must_be_refused_by": "moments",
                "verdict": "PASSED",
                "problem": "said",
            },
            {
                "control": "untrained",
                "wrong": "it is not trained",
                "gate": "perplexity",
                "must_be_refused_by": "committed",
                "verdict": "NOT RUN",
            },
        ],
        "controls_left_out": 94,
        "notes": ["a note", "to repeat this: pytest gates/"],
        "repeat": "pytest gates/ --impl my_pkg --blind-seed 1 --kill-seed 2",
        "blind_seed": 1,
        "kill_seed": 2,
        "runs": "runs/gates/20261129",
    }


def gate(name: str, *checks: dict[str, Any]) -> dict[str, Any]:
    """A gate of these checks, FAILED or NOT RUN if one is."""
    words = [c["verdict"] for c in checks]
    word = next((w for w in ("FAILED", "NOT RUN") if w in words), "PASSED")
    return {"gate": name, "title": name, "verdict": word, "checks": list(checks), "broken_tests": []}


def grading() -> dict[str, Any]:
    """A grading by the properties, with something of every kind."""
    failure = {
        "test": "test_activation.py::test_gelu_is_exact[float32]",
        "text": "ACT-01 ...",
        "found": [
            "got 0.042, expected 0.041 (float32); error 1e-3 = 1e4 x the derived bound",
            "first difference: [0]",
        ],
        "behaves_like": ["gelu: the tanh form"],
        "snippet": ["import my_adapter", "my_adapter.gelu(x)"],
        "reproduce": "honestloop check my_adapter --rule ACT-01",
    }
    held = {"status": "holds", "statement": "it holds", "examples": 40, "failures": [], "reason": None}
    return {
        "subject": "my_adapter",
        "profile": "dev",
        "started_at": "2026-11-29T01:34:00Z",
        "machine": "x86_64",
        "summary": "2 rules hold, 1 is broken, 1 is blocked; 1 not offered",
        "complaints": ["ADAM-01  holds, though EXPECTED declares that it does not"],
        "not_offered": ["softmax", "float16"],
        "rules": [
            {
                "rule": "ACT-01",
                **held,
                "status": "broken",
                "failures": [failure, {**failure, "test": "[float64]"}],
            },
            {"rule": "NORM-01", **held, "margins": {"float32": 0.25, "float64": 0.01}},
            {"rule": "LOSS-01", **held, "margins": {}},
            {"rule": "MODEL-01", **held, "status": "blocked", "reason": "blocked by ACT-01"},
            {"rule": "MASK-01", **held, "status": "not offered", "reason": "not offered: softmax"},
            {"rule": "ROPE-01", **held, "status": "expected failure", "reason": "another base"},
        ],
    }


def attacked(value: Any, attack: str) -> Any:
    """The same value with an attack at the end of every text and of every name that is not looked for."""
    if isinstance(value, str):
        return value if value in KEPT else value + attack
    if isinstance(value, Mapping):
        return {key: attacked(inner, attack) for key, inner in value.items()} | {f"more{attack}": attack}
    if isinstance(value, list):
        return [attacked(inner, attack) for inner in value]
    return copy.deepcopy(value)


def attacked_run(attack: str) -> RunData:
    """A run in which every text is attacked."""
    usual = run()
    values = {
        name: attacked(getattr(usual, name), attack) for name in ("results", "manifest", "drift", "samples")
    }
    lines = [{**line, f"curve{attack}": 1.0} for line in usual.log]
    return RunData(usual.name + attack, log=lines, absent=(attack,), **values)


KEPT = frozenset("PASSED FAILED BROKEN holds broken blocked".split()) | {
    "NOT RUN",
    "not offered",
    "expected failure",
}
