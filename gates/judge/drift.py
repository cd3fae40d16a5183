"""Checks of the drift gate: what rounding the weights does to each layer, measured again by the oracles.

The relative error of a layer is ||h_rounded - h|| / ||h|| (Frobenius) over every real position of the val sequences,
the forward pass in fp64, every weight rounded to nearest even. The bound is simulated on the whole measurement.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from fixtures.corpus.conjugation import Row
from gates.judge import scoring
from gates.judge.artefacts import read_png
from gates.subject.run_directory import RunDirectory
from gates.verdict.finding import Finding, Problem, no_problems, within
from reference import bounds, model, rounding
from reference.data import make_batch

SAMPLE = 24  # sequences that the bounds are simulated on
LAYERS = ("embed_out", "block_0_out", "block_1_out", "final_ln_out", "logits")
RESULTS, PLOT, FLIPS = "drift/drift_results.json", "drift/drift_per_layer.png", "drift/argmax_flips.md"


@dataclass(frozen=True)
class Measured:
    """One format: relative error of each layer with its bound, and every number of flips that could be counted."""

    errors: dict[str, tuple[float, float]]
    flips: range


class Drift:
    """The measurement, made here, from the weights of a run and the val cells."""

    def __init__(self, weights: scoring.Weights, scorer: scoring.ReferenceScorer, val: Sequence[Row]) -> None:
        self._weights = scoring.as_float64(weights)
        self._tokens, _, self._real, self._key_mask = make_batch(scorer.sequences(val))

    @property
    def positions(self) -> int:
        """Number of real positions."""
        return int(self._real.sum())

    @cached_property
    def measured(self) -> dict[str, Measured]:
        """Every format, measured by rounding every weight to it.

        The bounds are simulated on every n-th sequence and multiplied by n: no error grows faster than a sum.
        """
        variants = {"exact": self._weights, **{form: self._rounded(form) for form in rounding.FORMATS}}
        found = drift(variants, self._tokens, self._real, self._key_mask)
        every = -(-len(self._tokens) // SAMPLE)
        sample = [part[::every] for part in (self._tokens, self._real, self._key_mask)]
        bounded = bounds.probable(drift, variants, *sample, dtype=np.float64, draws=scoring.DRAWS)
        unsure = 2 * every * max(float(b.bound.max()) for b in bounded["logits"].values())
        return {
            form: Measured(
                {
                    layer: (float(error), every * float(bounded["errors"][form][layer].bound))
                    for layer, error in found["errors"][form].items()
                },
                _flips(found["logits"]["exact"], found["logits"][form], unsure),
            )
            for form in rounding.FORMATS
        }

    def _rounded(self, form: str) -> dict[str, np.ndarray]:
        return {name: rounding.round_weights(tensor, form) for name, tensor in self._weights.items()}


def drift(variants: Any, tokens: Any, real: Any, key_mask: Any) -> dict[str, Any]:
    """The oracle: relative error of each layer for each format, and the logits [positions, V] of each variant."""
    layers = {
        name: {
            layer: value[real]
            for layer, value in model.forward_layers(w, tokens, key_mask, scoring.CONFIG).items()
        }
        for name, w in variants.items()
    }
    exact = layers["exact"]
    errors = {
        form: {layer: _norm(layers[form][layer] - exact[layer]) / _norm(exact[layer]) for layer in LAYERS}
        for form in rounding.FORMATS
    }
    return {"errors": errors, "logits": {name: found["logits"] for name, found in layers.items()}}


def _norm(x: Any) -> Any:
    return np.sqrt((x * x).sum())


def _flips(exact: np.ndarray, moved: np.ndarray, unsure: float) -> range:
    """How many positions change their most likely token; one whose best two are `unsure` apart may count or not."""
    close = np.zeros(len(exact), bool)
    for logits in (exact, moved):
        best = np.sort(logits, axis=-1)[:, -2:]
        close |= best[:, 1] - best[:, 0] <= unsure
    flipped = exact.argmax(-1) != moved.argmax(-1)
    return range(int((flipped & ~close).sum()), int((flipped | close).sum()) + 1)


def report_exists(run: RunDirectory, drift: Drift) -> Finding:
    """Results with every layer and both formats, a plot that is a PNG image, and a list of the flips."""
    said = run.json(RESULTS)
    facts: dict[str, tuple[Any, Any]] = {
        "layers": (tuple(said["layers"]), LAYERS),
        "formats": (sorted(said["formats"]), sorted(rounding.FORMATS)),
        "positions": (said["positions"], drift.positions),
    }
    for form, entry in said["formats"].items():
        for layer, value in entry["relative_error"].items():
            facts[f"{form}.hex.{layer}"] = (entry["hex"][layer], float(value).hex())
    problems = [Problem(f"{RESULTS}: {name}", got, exp) for name, (got, exp) in facts.items() if got != exp]
    try:
        read_png(run.read(PLOT))
    except ValueError as error:
        problems.append(Problem(f"{PLOT}: {error}", "something else", "a PNG image"))
    text = run.read(FLIPS).decode("utf-8")
    for form, entry in said["formats"].items():
        if form not in text or str(entry["argmax_flips"]) not in text:
            problems.append(Problem(f"{FLIPS}: {form}", "not mentioned", f"{entry['argmax_flips']} flips"))
    return no_problems("drift/report", problems, of=f"3 files, {drift.positions} positions")


def errors_agree(run: RunDirectory, drift: Drift) -> Finding:
    """Every relative error, both formats, all layers."""
    said = run.json(RESULTS)["formats"]
    worst = (-1.0, 0.0, 1.0, "")
    for form in rounding.FORMATS:
        for layer, (real, bound) in drift.measured[form].errors.items():
            value = float(said[form]["relative_error"][layer])
            place = f"{form} relative_error of {layer} is {value!r}, not {real!r}"
            error = abs(value - real)
            worst = max(worst, (error / bound if error == error else np.inf, error, bound, place))
    _, error, bound, place = worst
    of = f"{len(LAYERS)} layers, 2 formats"
    return within("drift/errors", error=error, bound=bound, of=of, problem=f"{RESULTS}: {place}")


def flips_agree(run: RunDirectory, drift: Drift) -> Finding:
    """The number of argmax flips, both formats; exactly, unless two logits are too close to call."""
    said = run.json(RESULTS)["formats"]
    problems = []
    counts = []
    for form in rounding.FORMATS:
        possible, value = drift.measured[form].flips, said[form]["argmax_flips"]
        counts.append(f"{value} {form}")
        if value not in possible:
            expected = " to ".join(map(str, sorted({possible.start, possible.stop - 1})))
            problems.append(Problem(f"{RESULTS}: {form} argmax_flips", value, expected))
    return no_problems("drift/flips", problems, of=f"{', '.join(counts)} in {drift.positions} positions")
