"""What a subject's answers must satisfy: no look at the future, no look at the padding, and the oracle's logits."""

import numpy as np

from gates.judge import scoring
from gates.subject import tensors
from gates.subject.logit_probes import Answers
from gates.verdict.finding import Finding, Problem, at_most, no_problems
from reference import bounds, model

ORACLE_ROWS = 16  # of the cells, for the comparison with the oracle: its bound takes 16 forward passes


def causality(answers: Answers) -> Finding:
    """Tokens that come later change no earlier logit, in no bit; neither does their absence."""
    return _pairs_agree(
        "perplexity/causality", answers, answers.probes.future_pairs, "a future token changes logits"
    )


def padding(answers: Answers) -> Finding:
    """What stands in positions outside the key mask changes no logit of a real position, in no bit."""
    pairs = answers.probes.padding_pairs
    return _pairs_agree("perplexity/padding", answers, pairs, "what stands in the padding changes logits")


def _pairs_agree(where: str, answers: Answers, pairs: list[tuple[int, int, int]], what: str) -> Finding:
    problems = []
    for a, b, cut in pairs:
        if not np.isfinite(answers.logits[[a, b], :cut]).all():
            problems.append(Problem("logits are not finite", "NaN or infinity", "finite numbers"))
            continue
        index = tensors.first_difference(answers.logits[a, :cut], answers.logits[b, :cut])
        if index is not None:
            old, new = (float(answers.logits[row, :cut][index]) for row in (a, b))
            place = f"{what} at position {index[0]}, where the next change is at position {cut}"
            problems.append(Problem(place, f"{new!r}", f"{old!r}"))
    return no_problems(where, problems, of=f"{len(pairs)} pairs", what="differ")


def agreement_with_the_oracle(answers: Answers, weights: scoring.Weights) -> Finding:
    """The subject's fp64 logits are the oracle's, up to the probable rounding bound, at every real position."""
    asked = answers.probes
    tokens, mask, logits = (part[:ORACLE_ROWS] for part in (asked.tokens, asked.key_mask, answers.logits))
    found = agreement(logits, tokens, mask, weights)
    return at_most(
        "perplexity/oracle",
        figure=found.ratio,
        limit=1.0,
        detail=f"times the derived bound, {logits[mask].size:,} logits",
        problem=f"fp64 logits are not the oracle's: {found.where} is {found.got!r}, not {found.expected!r}",
    )


def agreement(
    logits: np.ndarray, tokens: np.ndarray, mask: np.ndarray, weights: scoring.Weights
) -> bounds.Agreement:
    """How far logits are from the oracle's with these weights, as a share of the bound, at every real position."""
    arguments = (scoring.as_float64(weights), tokens, mask, scoring.CONFIG)
    expected = bounds.probable(model.forward, *arguments, dtype=np.float64)
    return bounds.compare(logits[mask], expected.value[mask], expected.bound[mask], "logits")
