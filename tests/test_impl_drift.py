"""Rounding to half formats, the drift report, and the two plots."""

import json
import math
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from impl.config import Config
from impl.model.minigpt import MiniGPT
from impl.model.parameters import initial_parameters
from impl.report import drift, plots
from impl.report.drift import round_weights
from impl.run import directory as runs

ROOT = Path(__file__).resolve().parents[1]


def equal_bits(a, b):
    return a.dtype == b.dtype and np.array_equal(a.view(f"u{a.itemsize}"), b.view(f"u{b.itemsize}"))


def bfloat16_by_integers(x):
    """Round finite float32 bits to their upper half, ties to even; the carry runs into exponent and infinity."""
    bits = x.view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)).view(np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_float16_at_every_number_midpoint_and_neighbour(dtype):
    numbers = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(dtype)  # 0 to 65504
    middles = np.append(
        (numbers[:-1] + numbers[1:]) / 2, dtype(65520)
    )  # exact; the last would round to 65536
    x = np.concatenate(
        [numbers, middles, np.nextafter(middles, dtype(0)), np.nextafter(middles, dtype(np.inf))]
    )
    x = np.concatenate([x, -x, np.array([1e30, np.inf], dtype)])
    with np.errstate(over="ignore"):
        expected = x.astype(np.float16).astype(dtype)
    assert equal_bits(round_weights(x, "float16"), expected)


def test_bfloat16_of_float32_in_every_binade():
    generator = np.random.Generator(np.random.Philox(1))
    upper = np.repeat(np.arange(0x7F80, dtype=np.uint32), 8)  # every positive finite bfloat16
    lower = generator.choice(np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF, 0x4321], np.uint32), upper.size)
    x = ((upper << 16) | lower).view(np.float32)
    x = np.concatenate([x, -x])
    rounded = round_weights(x, "bfloat16")
    assert equal_bits(rounded, bfloat16_by_integers(x))
    assert np.isinf(rounded).any()


def test_bfloat16_of_float64_rounds_once():
    x = np.array([1 + 2**-8 + 2**-40, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 3 * 2**-8 - 2**-40])
    once = np.array([1 + 2**-7, 1.0, 1 + 2**-6, 1 + 2**-7])
    assert equal_bits(round_weights(x, "bfloat16"), once)


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_rounding_is_to_the_nearest_by_exact_arithmetic(name):
    generator = np.random.Generator(np.random.Philox(2))
    x = generator.standard_normal(200) * 0.02
    for value, rounded in zip(x, round_weights(x, name), strict=True):
        spacing = Fraction(2) ** (math.frexp(value)[1] - {"float16": 11, "bfloat16": 8}[name])
        assert Fraction(rounded) % spacing == 0
        assert abs(Fraction(rounded) - Fraction(value)) * 2 <= spacing


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_special_values_and_what_is_rounded_already(name):
    x = np.array([0.0, -0.0, np.inf, -np.inf, 1e-300, -1e-300])
    assert equal_bits(round_weights(x, name), np.array([0.0, -0.0, np.inf, -np.inf, 0.0, -0.0]))
    assert np.isnan(round_weights(np.array([np.nan]), name)).all()
    once = round_weights(np.linspace(-1, 1, 77), name)
    assert equal_bits(round_weights(once, name), once)
    before = np.array([1 / 3])
    round_weights(before, name)
    assert before[0] == 1 / 3


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run directory before its first step."""
    path = tmp_path_factory.mktemp("runs") / "run"
    return runs.create(path, ROOT / "fixtures" / "corpus", Config(), ["test"])


def model_with(weights):
    return MiniGPT(Config().model, "float64", weights)


@pytest.fixture(scope="module")
def weights():
    """Initial weights, larger than usual so that attention and logits are not near zero."""
    return {name: value * 3 for name, value in initial_parameters(0, Config().model).items()}


@pytest.fixture(scope="module")
def measured(run, weights):
    return drift.measure(model_with(weights), run)


def test_embedding_drift_is_the_rounding_error_of_the_rows_used(run, weights, measured):
    used = np.concatenate([sequence[:-1] for sequence in run.sequences["val"]])
    exact = weights["E"][used]
    assert measured.positions == len(used)
    for name in ("float16", "bfloat16"):
        change = round_weights(weights["E"], name)[used] - exact
        expected = math.sqrt(math.fsum((change**2).ravel())) / math.sqrt(math.fsum((exact**2).ravel()))
        # Two norms of n squares, each relatively right to n u, their roots and the quotient.
        bound = expected * (exact.size + 4) * 2.0**-53
        assert abs(measured.relative_error[name]["embed_out"] - expected) <= bound


def test_report_has_the_agreed_layers_and_the_coarser_format_drifts_more(measured):
    assert measured.layers == ["embed_out", "block_0_out", "block_1_out", "final_ln_out", "logits"]
    for layer in measured.layers:
        assert 0 < measured.relative_error["float16"][layer] < measured.relative_error["bfloat16"][layer] < 1


def test_weights_of_a_format_do_not_drift_in_it(run, weights):
    rounded = {name: round_weights(value, "bfloat16") for name, value in weights.items()}
    report = drift.measure(model_with(rounded), run)
    assert set(report.relative_error["bfloat16"].values()) == {0.0}
    assert not [flip for flip in report.flips if flip.format == "bfloat16"]


def test_every_flip_is_a_flip(run, weights, measured):
    """Each row of the list is recomputed alone: one sequence, not the whole split."""
    vocabulary = json.loads(run.tokenizer.to_json())["model"]["vocab"]
    cells = {row.id: number for number, row in enumerate(run.corpus.splits["val"])}
    flips = [flip for flip in measured.flips if flip.format == "bfloat16"]
    assert flips
    rounded = {name: round_weights(value, "bfloat16") for name, value in weights.items()}
    for flip in flips:
        sequence = run.sequences["val"][2 * cells[flip.row] + (flip.direction == "es -> en")]
        tokens = np.array([sequence[:-1]])
        choices = []
        for choice in (weights, rounded):
            logits = model_with(choice).forward(tokens, np.ones_like(tokens, np.bool_))
            choices.append(int(logits[0, flip.position].argmax()))
        assert choices == [vocabulary[flip.before], vocabulary[flip.after]]
        assert sequence[flip.position + 1] == vocabulary[flip.target]
        assert flip.before != flip.after


def test_files_of_the_report(measured, tmp_path):
    drift.write(tmp_path / "a" / "drift", measured)
    drift.write(tmp_path / "b", measured)
    names = ["argmax_flips.md", "drift_per_layer.png", "drift_results.json"]
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == names
    assert all(
        (tmp_path / "a/drift" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in names
    )
    results = json.loads((tmp_path / "b" / "drift_results.json").read_bytes())
    assert results["rounded"] == "Only the weights are rounded; activations stay float64."
    assert results["positions"] == measured.positions
    for name, facts in results["formats"].items():
        assert facts["relative_error"] == measured.relative_error[name]
        assert {layer: float.fromhex(text) for layer, text in facts["hex"].items()} == facts["relative_error"]
    table = (tmp_path / "b" / "argmax_flips.md").read_text()
    assert results["rounded"] in table
    assert sum(facts["argmax_flips"] for facts in results["formats"].values()) == len(measured.flips)
    assert sum(line.startswith("| `") for line in table.splitlines()) == len(measured.flips)


def baseline(perplexity):
    return {
        "kind": "kneser_ney",
        "n": 4,
        "parameter": 0.75,
        "val": {"ppl": perplexity, "nll_sum": 1.0, "tokens": 1},
    }


def write_log(path, scale=1.0):
    lines = [
        {"step": step, "loss": scale / step} | ({"val_loss": 2 / step} if step % 5 == 0 else {})
        for step in range(1, 21)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_equal_runs_have_equal_pictures_and_others_do_not(tmp_path):
    log = write_log(tmp_path / "log.jsonl")
    other = write_log(tmp_path / "other.jsonl", scale=1.1)
    for name, source, perplexity in (("a", log, 3.0), ("b", log, 3.0), ("c", log, 3.5), ("d", other, 3.0)):
        plots.loss_curve(source, baseline(perplexity), tmp_path / f"{name}.png")
    pictures = [(tmp_path / f"{name}.png").read_bytes() for name in "abcd"]
    assert pictures[0] == pictures[1]
    assert len(set(pictures)) == 3
    assert pictures[0].startswith(b"\x89PNG\r\n\x1a\n")
    assert b"tEXt" not in pictures[0]  # neither a version nor a date


def test_the_drift_plot_says_what_is_rounded(tmp_path, monkeypatch):
    titles = []
    monkeypatch.setattr(plots, "_save", lambda figure, axes, path: titles.append(axes.get_title()))
    plots.drift_per_layer(["a"], {"float16": {"a": 1e-3}}, tmp_path / "a.png")
    assert titles == ["Drift of layer outputs: only weights are rounded, activations stay float64"]


def test_a_log_without_evaluations_can_be_drawn(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 1, "loss": 4.0}\n')
    plots.loss_curve(tmp_path / "log.jsonl", baseline(3.0), tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_matplotlib_is_imported_for_a_picture_only_and_without_pyplot(tmp_path):
    script = (
        "import json, pathlib, sys; from impl.report import plots; assert 'matplotlib' not in sys.modules\n"
        "plots.drift_per_layer(['a', 'b'], {'float16': {'a': 1e-3, 'b': 2e-3}}, pathlib.Path(sys.argv[1]))\n"
        "assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "a.png")], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
