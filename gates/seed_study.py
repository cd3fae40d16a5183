"""How much room the perplexity gate leaves: many seeds trained, each scored as the gate does, one table.

python -m gates.seed_study                    20 seeds of impl on the committed split, written to docs/seeds.md
python -m gates.seed_study --impl NAME --seeds 3 --out table.md
"""

import argparse
import statistics
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fixtures.corpus import files
from gates.errors import GateError
from gates.judge.scoring import Contest, ReferenceScorer, contest
from gates.subject.pool import WORKERS
from gates.subject.process import Subject
from gates.verdict.definition import RATIO_LIMIT
from honestloop.suite_location import ROOT

DEFAULT_OUT = ROOT / "docs" / "seeds.md"


def train_and_score(module: str, seed: int, home: Path) -> Contest:
    """One training with default settings, scored on val by the oracle. GateError if it did not succeed."""
    corpus = files.read_directory()
    run = Subject(module, home / f"seed-{seed}").train("--seed", str(seed))
    return contest(ReferenceScorer(corpus["train"]), run.weights, corpus["val"])


def table(module: str, contests: list[Contest]) -> str:
    """Markdown: a summary, then one row a seed."""
    ratios, baseline = [contest.ratio for contest in contests], contests[0].baseline
    passed = sum(ratio <= RATIO_LIMIT for ratio in ratios)
    deviation = statistics.stdev(ratios) if len(ratios) > 1 else 0.0
    lines = [
        "# Seeds",
        "",
        f"`python -m gates.seed_study --impl {module} --seeds {len(contests)}` trains seeds 0 to {len(contests) - 1}",
        "with the default settings on the committed split and scores each as `gates/test_perplexity.py` does: val",
        "perplexity over that of the strongest n-gram, weights from the model file, forward pass by the fp64 oracle.",
        "",
        f"**{passed} of {len(contests)} seeds pass** (ratio at most {RATIO_LIMIT}).",
        "",
        "| best | mean | worst | standard deviation |",
        "| ---: | ---: | ---: | ---: |",
        f"| {min(ratios):.4f} | {statistics.mean(ratios):.4f} | {max(ratios):.4f} | {deviation:.4f} |",
        "",
        f"The strongest n-gram has perplexity {baseline.perplexity:.4f} on {contests[0].score.tokens} tokens.",
        "",
        "| seed | val perplexity | ratio |",
        "| ---: | ---: | ---: |",
        *(f"| {seed} | {c.score.perplexity:.4f} | {c.ratio:.4f} |" for seed, c in enumerate(contests)),
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Status 0 if every seed passes, 1 if one does not, 2 if a training fails."""
    parser = argparse.ArgumentParser(prog="python -m gates.seed_study", description=__doc__.splitlines()[0])
    parser.add_argument("--impl", default="impl", metavar="NAME", help="the subject (default impl)")
    parser.add_argument("--seeds", type=int, default=20, metavar="N", help="how many, from 0 (default 20)")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, metavar="FILE", help="default docs/seeds.md")
    options = parser.parse_args()
    if options.seeds < 1:
        parser.error("--seeds must be at least 1")
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(WORKERS) as pool:
        try:
            jobs = [pool.submit(train_and_score, options.impl, s, Path(folder)) for s in range(options.seeds)]
            contests = [job.result() for job in jobs]
        except GateError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(table(options.impl, contests), encoding="utf-8")
    print(options.out.read_text(encoding="utf-8"), end="")
    return 0 if all(contest.ratio <= RATIO_LIMIT for contest in contests) else 1


if __name__ == "__main__":
    sys.exit(main())
