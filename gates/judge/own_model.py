"""What a model of any kind must be: a distribution over tokens, blind to the future and the padding, scored here."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from gates.errors import GateError
from gates.judge.gradient_check import ROUNDINGS, SPREADS
from gates.subject.model_probes import ProbeAnswers
from gates.subject.model_runs import Line, ModelEvidence
from gates.subject.model_table import ModelTable
from gates.subject.scored_texts import Texts, TokenLosses
from gates.verdict.finding import Finding, Problem, at_most, no_problems, nothing_to_judge
from reference import sorted_ngrams
from reference.loss import softmax, token_nll

SAME = 2.0**-44
"""Relative difference of two correct doubles that say the same: a logarithm, an exponential and a division."""


# Logits


def normalised(evidence: ModelEvidence) -> Finding:
    """Logits are finite numbers, one for each token, of which the gate makes a distribution; equal ones make 1 / V."""
    answers, vocab = evidence.probes, evidence.vocab_size
    problems = []
    logits = np.concatenate([answers.whole, answers.changed])
    if not np.isfinite(logits).all():
        problems.append(Problem("logits are not finite", "NaN or infinity", "finite numbers"))
    elif (off := float(np.abs(softmax(logits).sum(axis=-1) - 1).max())) > 2.0**-52 * vocab:
        problems.append(Problem("the distribution over tokens does not sum to 1", f"off by {off:.1e}", "1"))
    if (highest := max(max(ids, default=0) for ids in evidence.validation.ids)) >= vocab:
        problems.append(Problem(f"the text has token {highest}", f"logits of {vocab} tokens", "one for each"))
    uniform = float(token_nll(np.zeros((1, 1, vocab)), np.zeros((1, 1), int))[0, 0])
    if not math.isclose(uniform, math.log(vocab), rel_tol=SAME):
        problems.append(Problem("equal logits", f"perplexity {math.exp(uniform)}", f"perplexity {vocab}"))
    return no_problems(
        "model/normalised", problems, of=f"{logits[..., 0].size} distributions over {vocab} tokens"
    )


def causality(answers: ProbeAnswers, table: ModelTable) -> Finding:
    """Tokens that come later change no earlier logit, beyond what is declared as rounding."""
    pairs = [
        (a[:cut], b[:cut], cut)
        for a, b, cut in zip(answers.whole, answers.changed, answers.cuts, strict=True)
    ]
    return _agree("model/causality", pairs, table, "a future token changes logits")


def padding(answers: ProbeAnswers, table: ModelTable) -> Finding:
    """What stands outside the key mask, at the end, changes no logit before it; nor does its absence."""
    cuts = answers.cuts
    pairs = [
        (a[:cut], b[:cut], cut) for a, b, cut in zip(answers.padded, answers.repadded, cuts, strict=True)
    ]
    pairs += [(b, a[:cut], cut) for b, a, cut in zip(answers.alone, answers.padded, cuts, strict=False)]
    return _agree("model/padding", pairs, table, "padding at the end changes logits")


def _agree(
    where: str, pairs: Sequence[tuple[np.ndarray, np.ndarray, int]], table: ModelTable, what: str
) -> Finding:
    problems, largest = [], 0.0
    for a, b, cut in pairs:
        limit = table.rounding * (1 + float(np.abs(a).max()))
        with np.errstate(invalid="ignore"):
            difference = np.abs(a - b).max(axis=-1)
        worst = float(difference.max())
        largest = max(largest, worst)
        if not worst <= limit:
            position = int(np.argmax(~(difference <= limit)))
            place = f"{what} at position {position}, where the change begins at position {cut}"
            problems.append(Problem(place, f"a difference of {worst:.3g}", f"at most {limit:.1e}, rounding"))
    return no_problems(
        where, problems, of=f"{len(pairs)} pairs, largest difference {largest:.1g}", what="differ"
    )


# Texts


def tokenizer(evidence: ModelEvidence) -> Finding:
    """Every text of both files decodes to itself, and its ids do not depend on what else is encoded with it."""
    if evidence.train.decoded is None:
        return nothing_to_judge(
            "model/tokenizer",
            missing="its data are ids, not texts",
            unproved="that its tokenizer decodes what it encodes",
        )
    problems = []
    for name, texts in (("train", evidence.train), ("validation", evidence.validation)):
        problems += list(_not_kept(name, texts))
    count = sum(len(t.documents) for t in (evidence.train, evidence.validation))
    whose = "its own tokenizer" if evidence.train.own_tokenizer else "UTF-8 bytes"
    return no_problems("model/tokenizer", problems, of=f"{count} documents, {whose}")


def _not_kept(name: str, texts: Texts) -> Iterator[Problem]:
    for number, (text, back) in enumerate(
        zip(texts.documents, texts.decoded or texts.documents, strict=True)
    ):
        if text != back:
            yield Problem(f"{name}: document {number} is not what its ids decode to", repr(back), repr(text))
            break
    for number, ids in texts.alone.items():
        if ids != texts.ids[number]:
            what = f"{name}: document {number} has other ids when it is encoded alone"
            yield Problem(what, ids[:20], texts.ids[number][:20])
            break


# Perplexity


def perplexities(evidence: ModelEvidence) -> tuple[int, TokenLosses]:
    """The step and the score of the last checkpoint."""
    last = max(evidence.scores)
    return last, evidence.scores[last]


def bits_per_byte(evidence: ModelEvidence) -> float | None:
    """Bits that the model needs for a byte of the validation text; None for data without texts."""
    if not evidence.predicted_bytes:
        return None
    return perplexities(evidence)[1].total / math.log(2) / evidence.predicted_bytes


def beats_the_baseline(evidence: ModelEvidence) -> Finding:
    """Its perplexity is at most the declared share of the strongest n-gram's, on the same tokens in the same windows.

    The n-gram is learned from the training text; of the text that is scored it sees what the model sees.
    """
    _, score = perplexities(evidence)
    try:
        best = sorted_ngrams.strongest(
            evidence.train.pieces(evidence.table),
            evidence.validation.windows(evidence.table),
            evidence.vocab_size,
        )
    except ValueError as error:
        raise GateError(str(error)) from None
    if best.tokens != score.tokens:
        raise GateError(f"the n-gram predicted {best.tokens} tokens, the model {score.tokens}")
    own = math.exp(score.mean)
    return at_most(
        "model/baseline",
        figure=own / best.perplexity,
        limit=evidence.table.ratio,
        detail=f"{own:.3f} against {best.perplexity:.3f} of {best}, {score.tokens} tokens",
        problem="the ratio of the model's perplexity to the strongest n-gram's is too high",
    )


def validation_losses(evidence: ModelEvidence) -> Finding:
    """Every val_loss of the log is the mean over all predicted tokens of the text, by the weights of its checkpoint."""
    logged = {line["step"]: line["val_loss"] for line in evidence.log if "val_loss" in line}
    problems, worst = [], 0.0
    for step, score in sorted(evidence.scores.items()):
        if step not in logged:
            continue
        got, bound = logged[step], _bound(evidence, score.mean)
        if isinstance(got, float | int) and abs(got - score.mean) <= bound:
            worst = max(worst, abs(got - score.mean) / bound)
            continue
        like = _behaves_like(got, evidence, score, bound)
        what = f"step {step}: val_loss is not that of the checkpoint's weights over the whole text{like}"
        problems.append(Problem(what, got, f"{score.mean:.9g}, to {bound:.1e}"))
    judged = sorted(evidence.scores.keys() & logged.keys())
    if not judged:
        return nothing_to_judge(
            "model/validation",
            missing="no line of a checkpoint that was scored has val_loss",
            unproved="the val_loss of its log",
        )
    return no_problems(
        "model/validation",
        problems,
        of=f"{worst:.2g} of the bound, val_loss of {len(judged)} checkpoints, of {len(logged)} that are logged",
    )


def _bound(evidence: ModelEvidence, loss: float) -> float:
    """How far a loss that was computed in the training's precision may be from the same in double precision."""
    spread = max((update.at.spread for update in evidence.updates if update.at), default=0.0)
    return ROUNDINGS * evidence.table.unit * (1 + abs(loss)) + SPREADS * spread


def _behaves_like(got: Any, evidence: ModelEvidence, score: TokenLosses, bound: float) -> str:
    """A usual mistake that gives this number, if there is one."""
    if not isinstance(got, float | int):
        return ""
    for step, other in evidence.scores.items():
        if abs(other.mean - got) <= bound:
            return f" (behaves like: the weights of step {step})"
    counts = np.bincount(score.window)
    sums = np.bincount(score.window, weights=score.nll)
    if abs(float((sums / counts).mean()) - got) <= bound:
        return " (behaves like: the mean of the windows' means)"
    if abs(score.total / (len(counts) * counts.max()) - got) <= bound:
        return " (behaves like: padding is counted)"
    first = np.cumsum(sums) / np.cumsum(counts)
    if (near := np.flatnonzero(np.abs(first - got) <= bound)).size:
        return f" (behaves like: the mean over the first {near[0] + 1} of {len(counts)} windows)"
    return ""


def reported(evidence: ModelEvidence) -> Finding:
    """What results.json and the log say of perplexity and bits per byte is what the gate computes itself."""
    problems, compared = [], 0
    last, score = perplexities(evidence)
    places: list[tuple[str, Line, TokenLosses]] = [("results.json", evidence.results, score)]
    for line in evidence.log:
        if line["step"] in evidence.scores:
            places.append((f"log, step {line['step']}", line, evidence.scores[line["step"]]))
    for place, said, of in places:
        for name, expected in _expected(evidence, of, whole=of is score).items():
            if name not in said:
                continue
            compared += 1
            got, bound = said[name], expected * _bound(evidence, of.mean) * 2
            if isinstance(got, bool) or not isinstance(got, float | int) or not abs(got - expected) <= bound:
                like = _other_base(got, of) if name.endswith(("ppl", "perplexity")) else ""
                problems.append(Problem(f"{place}: {name}{like}", got, f"{expected:.9g}, to {bound:.1e}"))
    bits = bits_per_byte(evidence)
    figure = f"perplexity {math.exp(score.mean):.4g}" + ("" if bits is None else f", {bits:.4g} bits a byte")
    return no_problems(
        "model/perplexity",
        problems,
        of=f"{figure} at step {last}, {score.tokens} tokens; {compared} reported",
    )


def _expected(evidence: ModelEvidence, score: TokenLosses, *, whole: bool) -> Mapping[str, float]:
    """Name of a number that may be reported -> what it must be."""
    found = dict.fromkeys(("val_ppl", "val_perplexity", "perplexity"), math.exp(score.mean))
    found["val_loss"] = score.mean
    if whole and (bits := bits_per_byte(evidence)) is not None:
        found["bits_per_byte"] = bits
    return found


def _other_base(got: Any, score: TokenLosses) -> str:
    if isinstance(got, float | int) and math.isclose(got, 2.0**score.mean, rel_tol=1e-4):
        return " (behaves like: 2 to the loss, which is in nats)"
    return ""
