"""Checks of the perplexity gate: is the model as good as it must be, and is that what was measured?"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fixtures.corpus import files
from fixtures.corpus.conjugation import Row
from gates.judge import scoring
from gates.judge.scoring import ReferenceScorer
from gates.subject.process import Finished
from gates.subject.run_directory import RunDirectory
from gates.verdict.definition import RATIO_LIMIT
from gates.verdict.finding import Finding, Problem, at_most, no_problems, within
from honestloop.guarded_files import sha256_regular
from reference import ngram
from reference.tokenizer import VOCAB_SIZE

Splits = Mapping[str, Sequence[Row]]


def ratio(where: str, contest: scoring.Contest) -> Finding:
    """Val perplexity is at most 0.7 times that of the strongest n-gram."""
    return at_most(
        where,
        figure=contest.ratio,
        limit=RATIO_LIMIT,
        detail=str(contest),
        problem="the ratio of the model's perplexity to the strongest n-gram's is too high",
    )


def claims_to_pass(run: RunDirectory) -> bool:
    """Whether the numbers that a run reports about itself would pass the gate."""
    return bool(run.json("results.json")["ratio"] <= RATIO_LIMIT)


def scorer_reads_v(scorer: ReferenceScorer, rows: Sequence[Row]) -> Finding:
    """Weights that make every token equally likely have perplexity V: so the scorer adds up what it should."""
    score = scorer.score(scoring.uniform_weights(), rows, np.float64)
    return within(
        "perplexity/scorer",
        error=abs(score.nll_sum - score.tokens * math.log(VOCAB_SIZE)),
        bound=score.bound,
        of=f"nll of {score.tokens} tokens, perplexity {score.perplexity:.6f}",
        problem=f"uniform weights do not read perplexity {VOCAB_SIZE}",
    )


def split_is_kept(run: RunDirectory, data: Splits, kept: Splits, hashes: Mapping[str, str]) -> Finding:
    """data.json tells the cells of the files that were handed over, and none stands in two splits.

    `data` are the splits handed over, `kept` those that were not, `hashes` the sha256 of each file.
    """
    said = run.json("data.json")
    problems = [
        Problem(f"data.json: sha256 of {name}", said["files"].get(name, {}).get("sha256"), digest)
        for name, digest in hashes.items()
        if said["files"].get(name, {}).get("sha256") != digest
    ]
    ids = {name: list(cells) for name, cells in said["splits"].items()}
    for name, rows in data.items():
        expected = [row["id"] for row in rows]
        if ids.get(name) != expected:
            problems.append(Problem(f"data.json: cells of {name}", ids.get(name), expected))
    everything = [
        *ids.items(),
        *((f"kept {name}", [str(r["id"]) for r in rows]) for name, rows in kept.items()),
    ]
    for number, (name, cells) in enumerate(everything):
        for other, others in everything[number + 1 :]:
            if shared := sorted(set(cells) & set(others)):
                problems.append(Problem(f"{name} and {other} share {len(shared)} cells", shared[0], "none"))
    problems.sort(key=lambda problem: " share " not in problem.what)
    total = sum(len(cells) for _, cells in everything)
    return no_problems("perplexity/split", problems, of=f"{total} cells in {len(everything)} splits")


def overlap_is_refused(finished: Finished, run: RunDirectory) -> Finding:
    """Splits that overlap are a usage error: status 2, one line that names a cell, and nothing written."""
    lines = finished.stderr.strip().splitlines()
    cell = files.read_directory()["train"][0]["id"]
    wrong = {
        "the exit status": (finished.status, 2, finished.status == 2),
        "lines on stderr": (len(lines), 1, len(lines) == 1),
        "what it said": (finished.stderr.strip(), f"a line that names {cell}", str(cell) in finished.stderr),
        "the run directory": ("written", "not written", not run.path.exists()),
    }
    problems = [
        Problem(f"overlapping splits: {what}", got, expected)
        for what, (got, expected, ok) in wrong.items()
        if not ok
    ]
    return no_problems("perplexity/overlap", problems, of=f"status {finished.status}, {len(lines)} line")


def reported_is_recomputed(run: RunDirectory, splits: Splits, scorer: ReferenceScorer) -> Finding:
    """Every perplexity and every baseline that results.json claims is what the gate computes itself.

    A claim is about the saved model in fp64, whatever it was trained in: only then is the bound narrow enough to
    tell an honest sum from another.
    """
    claims = run.json("results.json")
    problems: list[Problem] = []
    compared = 0
    for name, rows in splits.items():
        score = scorer.score(run.weights, rows, np.float64)
        problems += _claimed_score(f"perplexity.{name}", claims["perplexity"][name], score)
        compared += 1
    baselines = {(b.model.kind, b.model.n): b for b in scorer.baselines(splits["val"])}
    claimed = {(c["kind"], c["n"]): c for c in claims["baselines"]}
    for key, baseline in baselines.items():
        problems += _claimed_baseline(f"baseline {key[1]}-gram {key[0]}", claimed.get(key), baseline)
        compared += 1
    problems += _claimed_ratio(claims)
    return no_problems("perplexity/reported", problems, of=f"{compared} perplexities and the ratio")


def _claimed_score(place: str, claim: dict[str, Any], score: scoring.Score) -> list[Problem]:
    nll = float.fromhex(claim["hex"]["nll_sum"])
    wrong = {
        "nll_sum": (nll, score.nll_sum, abs(nll - score.nll_sum) <= score.bound),
        "tokens": (claim["tokens"], score.tokens, claim["tokens"] == score.tokens),
        "ppl": (
            claim["ppl"],
            math.exp(nll / score.tokens),
            _same(claim["ppl"], math.exp(nll / score.tokens)),
        ),
        "hex.ppl": (claim["hex"]["ppl"], claim["ppl"].hex(), claim["hex"]["ppl"] == claim["ppl"].hex()),
    }
    return [
        Problem(f"results.json: {place}.{part}", got, exp) for part, (got, exp, ok) in wrong.items() if not ok
    ]


def _claimed_baseline(place: str, claim: dict[str, Any] | None, baseline: ngram.Baseline) -> list[Problem]:
    if claim is None:
        return [Problem(f"results.json: {place}", "no such entry", f"perplexity {baseline.perplexity:.4f}")]
    nll, bound = claim["val"]["nll_sum"], ngram.nll_bound(baseline.model.n, baseline.nll_sum, baseline.tokens)
    wrong = {
        "parameter": (
            claim["parameter"],
            baseline.model.parameter,
            claim["parameter"] == baseline.model.parameter,
        ),
        "nll_sum": (nll, baseline.nll_sum, abs(nll - baseline.nll_sum) <= bound),
        "tokens": (claim["val"]["tokens"], baseline.tokens, claim["val"]["tokens"] == baseline.tokens),
        "ppl": (
            claim["val"]["ppl"],
            baseline.perplexity,
            _same(claim["val"]["ppl"], math.exp(nll / baseline.tokens)),
        ),
    }
    return [
        Problem(f"results.json: {place} {part}", got, exp) for part, (got, exp, ok) in wrong.items() if not ok
    ]


def _claimed_ratio(claims: dict[str, Any]) -> list[Problem]:
    """The ratio and the strongest baseline follow from the numbers beside them, which are checked one by one."""
    lowest = min(claim["val"]["ppl"] for claim in claims["baselines"])
    strongest, expected = (
        claims["strongest_baseline"]["val"]["ppl"],
        claims["perplexity"]["val"]["ppl"] / lowest,
    )
    problems = []
    if strongest != lowest:
        problems.append(Problem("results.json: strongest_baseline", strongest, lowest))
    if not _same(claims["ratio"], expected):
        problems.append(Problem("results.json: ratio", claims["ratio"], expected))
    return problems


def _same(a: float, b: float) -> bool:
    """Equal up to the few roundings of an exp and a division."""
    return math.isclose(a, b, rel_tol=2.0**-50)


def tokenizer_is_learned_from_train(
    run: RunDirectory, scorer: ReferenceScorer, rows: Sequence[Row]
) -> Finding:
    """tokenizer.json is what the training cells give, vocabulary, merges and special tokens."""
    said = run.json("tokenizer.json")
    own = scorer.tokenizer
    vocabulary = sorted(said["model"]["vocab"].items(), key=lambda item: item[1])
    merges = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in said["model"]["merges"]]
    expected = {
        "vocabulary": ([name for name, _ in vocabulary], list(own.vocabulary)),
        "ids": ([number for _, number in vocabulary], list(range(VOCAB_SIZE))),
        "merges": (merges, [(own.vocabulary[a], own.vocabulary[b]) for a, b in own.merges]),
    }
    problems = [
        Problem(f"tokenizer.json: {part}", got, own_part)
        for part, (got, own_part) in expected.items()
        if got != own_part
    ]
    of = f"{len(own.vocabulary)} tokens and {len(own.merges)} merges from {len(rows)} cells"
    return no_problems("perplexity/tokenizer", problems, of=of)


def digests(path: Any) -> dict[str, str]:
    """File name -> sha256 of every data file in a directory."""
    return {f.name: sha256_regular(f) for f in sorted(path.glob("*.jsonl"))}
