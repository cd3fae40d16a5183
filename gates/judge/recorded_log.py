"""Every number of a log that can be recomputed from the log itself: steps, perplexities, bests, totals, times.

docs/run-directory.md names the fields. What it does not name is not looked at, but for being finite.

Perplexity. exp(loss) in a subject with unit roundoff u: the loss is rounded once, |loss| u, exp is within ELEMENTARY
roundings (reference/arithmetic.py), and the result is rounded as it is logged:

    |ppl - exp(loss)| <= (|loss| + ELEMENTARY + 1) u exp(loss)

Throughput. An update reads and writes at least its parameters and both moments and reads a gradient, 7 numbers of a
parameter; no machine moves more than FASTEST bytes a second.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeGuard

from gates.subject.recorded_directory import RecordedDirectory
from gates.verdict.finding import Finding, Problem, no_problems
from reference.arithmetic import DOUBLE, ELEMENTARY

Line = Mapping[str, Any]
NEEDED = ("loss", "lr")
PERPLEXITIES = {"ppl": "loss", "val_ppl": "val_loss", "best_val_ppl": "best_val_loss"}
CLOCKS = ("elapsed_seconds", "wall_seconds", "time", "timestamp")
"""Fields that tell the time: none runs backwards. `seconds` is the time that one update took."""
FASTEST = 1e13
"""Bytes a second. The memory of an accelerator of 2025 moves 8e12."""


@dataclass(frozen=True)
class LogFacts:
    """What a log is judged by, beside itself."""

    steps: int
    """Updates that the run was told to make."""
    unit: float = DOUBLE
    """Unit roundoff of the numbers that it computes."""
    parameters: int = 0
    """How many numbers it trains."""


def log(run: RecordedDirectory, facts: LogFacts) -> Finding:
    """Every line of the log, and results.json if there is one."""
    lines = run.log
    problems = [
        *_steps(lines, facts.steps),
        *_numbers(lines),
        *_perplexities(lines, facts.unit),
        *_bests(lines),
        *_totals(lines),
        *_throughput(lines, facts),
        *_clocks(lines),
        *_results(run.results, lines, facts.unit),
    ]
    fields = sum(len(line) for line in lines)
    return no_problems("record/log", problems, of=f"{len(lines)} lines, {fields} fields")


def _steps(lines: Sequence[Line], steps: int) -> Iterator[Problem]:
    """`step` counts the lines from 1, and there are as many as the run was told to make."""
    for number, line in enumerate(lines, 1):
        if line.get("step") != number or isinstance(line.get("step"), bool):
            yield Problem(f"line {number}: step does not count by one", line.get("step"), number)
            return
    if len(lines) != steps:
        yield Problem("lines of the log", len(lines), f"{steps}, the updates that the run was told to make")


def _numbers(lines: Sequence[Line]) -> Iterator[Problem]:
    """The fields that every line has are numbers; a skipped update may have no loss."""
    for line in lines:
        skipped = line.get("skipped") is True
        for name in NEEDED:
            absent = line.get(name) is None and skipped and name == "loss"
            if not absent and not _is_number(line.get(name)):
                yield Problem(f"step {line.get('step')}: {name} is not a number", line.get(name), "a number")
        if "skipped" in line and not isinstance(line["skipped"], bool):
            yield Problem(f"step {line.get('step')}: skipped", line["skipped"], "true or false")


def _perplexities(lines: Sequence[Line], unit: float) -> Iterator[Problem]:
    for line in lines:
        yield from _perplexities_of(line, f"step {line.get('step')}", unit)


def _perplexities_of(line: Line, place: str, unit: float) -> Iterator[Problem]:
    for name, of in PERPLEXITIES.items():
        if _is_number(line.get(name)) and _is_number(line.get(of)):
            loss, said = float(line[of]), float(line[name])
            due = math.exp(loss) if loss < 709.0 else math.inf
            bound = (abs(loss) + ELEMENTARY + 1.0) * (unit + DOUBLE) * due
            if not (abs(said - due) <= bound or said == due):
                yield Problem(f"{place}: {name} is not exp({of})", said, f"{due!r}, give or take {bound:.2g}")


def _bests(lines: Sequence[Line]) -> Iterator[Problem]:
    """best_val_loss and best_step are those of the least val_loss so far, this line's included, the first of equals."""
    best: tuple[float, int] | None = None
    for line in lines:
        val = line.get("val_loss")
        if _is_number(val) and val == val and (best is None or float(val) < best[0]):
            best = float(val), int(line["step"])
        yield from _best_of(line, best, f"step {line.get('step')}")


def _best_of(line: Line, best: tuple[float, int] | None, place: str) -> Iterator[Problem]:
    for name, due in zip(("best_val_loss", "best_step"), best or (None, None), strict=True):
        if line.get(name) is not None and line[name] != due:
            yield Problem(f"{place}: {name} is not that of the least val_loss so far", line[name], due)


def _totals(lines: Sequence[Line]) -> Iterator[Problem]:
    """total_tokens adds up `tokens`; neither goes down, nor does `epoch`."""
    total, epoch = 0, -math.inf
    for line in lines:
        place = f"step {line.get('step')}"
        if _is_number(line.get("tokens")):
            total += line["tokens"]
            if line["tokens"] < 0:
                yield Problem(f"{place}: tokens", line["tokens"], "0 or more")
            if line.get("total_tokens") not in (None, total):
                yield Problem(f"{place}: total_tokens is not the sum of tokens", line["total_tokens"], total)
        if _is_number(line.get("epoch")):
            if line["epoch"] < epoch:
                yield Problem(f"{place}: epoch goes back", line["epoch"], f"{epoch} or more")
            epoch = float(line["epoch"])


def _throughput(lines: Sequence[Line], facts: LogFacts) -> Iterator[Problem]:
    """tokens_per_second is tokens / seconds, of this update or of the run so far, and a machine can do it."""
    least = 7 * 4 * facts.parameters / FASTEST
    total = 0.0
    for line in lines:
        place, tokens = f"step {line.get('step')}", line.get("tokens")
        if not _is_number(tokens):
            continue
        total += tokens
        seconds, said = line.get("seconds"), line.get("tokens_per_second")
        if not _is_number(said):
            continue
        if _is_number(seconds) and seconds > 0:
            due = [count / seconds for count in (tokens, total)]
            if all(abs(said - rate) > 4.0 * 2.0**-24 * abs(rate) for rate in due):
                yield Problem(f"{place}: tokens_per_second is not tokens / seconds", said, due[0])
        if said * least > tokens or said < 0:
            most = (
                f"at most {tokens / least:.3g}, or the memory would be faster than any"
                if least
                else "0 or more"
            )
            yield Problem(f"{place}: tokens_per_second", said, most)


def _clocks(lines: Sequence[Line]) -> Iterator[Problem]:
    last: dict[str, tuple[float, Any]] = {}
    for line in lines:
        place = f"step {line.get('step')}"
        for name in line:
            if name.endswith("seconds") and _is_number(line[name]) and line[name] < 0:
                yield Problem(f"{place}: {name} is negative", line[name], "0 or more")
        for name in CLOCKS:
            now = _instant(line.get(name))
            if now is None:
                continue
            if name in last and now < last[name][0]:
                yield Problem(f"{place}: {name} runs backwards", line[name], f"{last[name][1]} or later")
            last[name] = now, line[name]


def _instant(value: Any) -> float | None:
    """Seconds of a number or of an ISO 8601 date; None for anything else."""
    if _is_number(value):
        return float(value)
    try:
        return datetime.fromisoformat(value).timestamp() if isinstance(value, str) else None
    except ValueError:
        return None


def _results(results: Line, lines: Sequence[Line], unit: float) -> Iterator[Problem]:
    """Final numbers: perplexities of their losses, the best of the log, its totals, times that are not negative."""
    place = "results.json"
    yield from _perplexities_of(results, place, unit)
    yield from _clocks([{**results, "step": place}])
    scores = [
        (float(line["val_loss"]), int(line["step"])) for line in lines if _is_number(line.get("val_loss"))
    ]
    if scores:
        yield from _best_of(results, min(scores, key=lambda score: score[0]), place)
        last, best = scores[-1][0], min(scores)[0]
        if _is_number(results.get("val_loss")) and results["val_loss"] not in (last, best):
            yield Problem(
                f"{place}: val_loss is neither the last nor the best of the log", results["val_loss"], last
            )
    total = sum(line["tokens"] for line in lines if _is_number(line.get("tokens")))
    for name, due in {"steps": len(lines), "total_tokens": total}.items():
        if results.get(name) not in (None, due) and (name == "steps" or total):
            yield Problem(f"{place}: {name} is not that of the log", results[name], due)


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
