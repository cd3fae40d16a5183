"""Checks of every number that a whole run has logged or summed up, and that can be had in another way."""

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fixtures.corpus.conjugation import Row
from gates.errors import GateError
from gates.judge.run_record import State
from gates.judge.scoring import ReferenceScorer
from gates.subject.run_directory import RunDirectory
from gates.subject.training_runs import Trained
from gates.verdict.finding import Finding, Problem, no_problems
from reference.bounds import Agreement, compare

EXP = 2.0**-50  # relative: a few roundings of an exp and of its argument
FASTER = 10.0
"""Nobody trains so many times as fast as the lines of the log appear: writing a line is not the longest part of it."""


def evaluations(run: RunDirectory, scorer: ReferenceScorer, rows: Sequence[Row]) -> Finding:
    """val_loss of every checkpoint, val_ppl of every line that has one, and which of them is the best."""
    scored = {step: line for step, line in enumerate(run.log, 1) if "val_loss" in line}
    problems, worst, compared = list[Problem](), Agreement(0.0), 0
    for step in sorted(run.checkpoints().keys() & scored.keys()):
        found = _agreement(State.read(run, step), scored[step]["val_loss"], scorer, rows)
        compared, worst = compared + 1, max(worst, found, key=lambda a: a.ratio)
        if not found.within:
            expected = f"{found.expected!r}, give or take {found.bound:.2g}"
            problems.append(Problem(f"step {step}: val_loss is not that of its weights", found.got, expected))
    if not compared:
        problems.append(Problem("evaluations at checkpoints", 0, "one at least"))
    problems += [problem for step, line in scored.items() for problem in _perplexity(step, line)]
    best = min(scored, key=lambda step: float(scored[step]["val_loss"]), default=None)
    said = _results(run).get("best_step", best)
    if said != best:
        problems.append(Problem("results.json: best_step is not that of the lowest val_loss", said, best))
    of = f"{compared} evaluations recomputed, {worst.ratio:.2g} of the derived bound; {len(scored)} logged"
    return no_problems("whole_run/evaluations", problems, of=of)


def _results(run: RunDirectory) -> dict[str, Any]:
    """results.json, whatever its form: that is another rule's."""
    try:
        return dict(json.loads(run.read("results.json")))
    except (TypeError, ValueError) as error:
        raise GateError(f"run directory: results.json is not a JSON object ({error})") from None


def _agreement(state: State, said: Any, scorer: ReferenceScorer, rows: Sequence[Row]) -> Agreement:
    """A logged validation loss beside the oracle's, of the same weights."""
    score = scorer.score(state.weights, rows, state.dtype)
    value = score.nll_sum / score.tokens
    # The bound of a mean: that of the sum, and a rounding of the quotient.
    return compare(said, value, score.bound / score.tokens + abs(value) * 2.0**-51, "val_loss")


def _perplexity(step: int, line: Mapping[str, Any]) -> Iterator[Problem]:
    """val_ppl is exp(val_loss)."""
    said, expected = line.get("val_ppl"), _exp(line["val_loss"])
    if said is not None and not math.isclose(said, expected, rel_tol=EXP * max(1.0, abs(line["val_loss"]))):
        yield Problem(f"step {step}: val_ppl is not exp(val_loss)", said, expected)


def _exp(x: float) -> float:
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf


def totals(trained: Trained) -> Finding:
    """What results.json sums up agrees with the log and with a clock outside; every exact number with its decimals."""
    run, claims = trained.run, _results(trained.run)
    problems = [*_counts(run, claims), *_times(trained, claims), *_speed(trained, claims), *_running(run.log)]
    numbers = [
        name for name in ("steps", "wall_seconds", "tokens_per_second") if claims.get(name) is not None
    ]
    of = f"{', '.join(numbers)}; {len(run.log)} lines in {trained.seconds:.1f} s"
    return no_problems("whole_run/totals", problems, of=of)


def _counts(run: RunDirectory, claims: Mapping[str, Any]) -> Iterator[Problem]:
    """Numbers of updates and of tokens."""
    expected = {"steps": len(run.log), "total_tokens": sum(line["tokens"] for line in run.log)}
    for name in expected.keys() & claims.keys():
        if claims[name] != expected[name]:
            yield Problem(f"results.json: {name} is not that of the log", claims[name], expected[name])


def _times(trained: Trained, claims: Mapping[str, Any]) -> Iterator[Problem]:
    """The time inside the loop: no shorter than its lines took to appear, no longer than the process ran."""
    ends = _ends(trained.run)
    least, most = trained.growth.least_seconds(ends[1], ends[-1]), trained.seconds
    said = claims.get("wall_seconds")
    if said is not None and not least <= said <= most:
        yield Problem(
            "results.json: wall_seconds is not the time it took", said, f"{least:.3f} to {most:.3f}"
        )


def _speed(trained: Trained, claims: Mapping[str, Any]) -> Iterator[Problem]:
    """Tokens a second, of training steps alone: the first one, which compiles, may be left out."""
    said, log = claims.get("tokens_per_second"), trained.run.log
    if said is None:
        return
    slowest = sum(line["tokens"] for line in log[1:]) / trained.seconds
    tokens, seconds = _seen(trained)
    fastest = FASTER * tokens / seconds if seconds else math.inf
    if not slowest <= said <= fastest:
        wanted = f"{slowest:.0f} to {fastest:.0f}"
        yield Problem("results.json: tokens_per_second is not how fast it was", said, wanted)


def _seen(trained: Trained) -> tuple[int, float]:
    """(tokens, seconds) of the updates between whose lines nothing else was done: no evaluation, no checkpoint."""
    log, ends, saved = trained.run.log, _ends(trained.run), trained.run.checkpoints()
    quiet = [n for n in range(2, len(log) + 1) if "val_loss" not in log[n - 1] and n - 1 not in saved]
    tokens, seconds = 0, 0.0
    for _, group in itertools.groupby(enumerate(quiet), lambda pair: pair[1] - pair[0]):
        stretch = [update for _, update in group]
        tokens += sum(log[update - 1]["tokens"] for update in stretch)
        seconds += trained.growth.least_seconds(ends[stretch[0] - 1], ends[stretch[-1]])
    return tokens, seconds


def _ends(run: RunDirectory) -> list[int]:
    """Length of the log, in bytes, after each number of lines."""
    return [0, *itertools.accumulate(len(line) + 1 for line in run.log_lines)]


def _running(log: Sequence[Mapping[str, Any]]) -> Iterator[Problem]:
    """Numbers that a line may have beside those of its update: exact forms, sums so far, the time."""
    total, before = 0, -math.inf
    for update, line in enumerate(log, 1):
        total += line["tokens"]
        for name, exact in line.get("hex", {}).items():
            if name not in line or float(line[name]).hex() != exact:
                yield Problem(
                    f"line {update}: hex.{name} is another number than {name}", exact, line.get(name)
                )
        if line.get("total_tokens", total) != total:
            yield Problem(f"line {update}: total_tokens", line["total_tokens"], total)
        seconds = line.get("seconds", before)
        if not seconds >= before:
            yield Problem(f"line {update}: seconds run backwards", seconds, f"at least {before}")
        before = seconds
