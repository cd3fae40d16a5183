"""What is rounded to 16 bits, what is computed twice, what is skipped: in the model, in an update, over a resume."""

import hashlib
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from impl.config import ModelConfig, OptimizerConfig, PrecisionConfig
from impl.data.iterator import Batch
from impl.errors import NonFiniteError, SkippedUpdate
from impl.kernels.half_precision import FORMS, round_at_random, round_flat
from impl.model.dropout import Dropout
from impl.model.minigpt import MiniGPT
from impl.model.parameters import initial_parameters
from impl.optim.loss_scale import LossScale
from impl.optim.optimizer import AdamW
from impl.optim.schedule import Schedule
from impl.optim.stochastic_rounding import StochasticRounding
from impl.rng import stream_key
from impl.update import update
from reference.rounding import round_weights
from reference.stochastic_rounding import round_stochastically, words

ROOT = Path(__file__).parents[1]
SMALL = ModelConfig(d_model=8, n_heads=2, n_layers=3, d_ff=12, vocab_size=11, context=16)
SETTINGS = """
recompute = true
batch_size = 64
[precision]
autocast = "float16"
loss_scaling = true
init_scale = 1.0995116e12
backoff_factor = 0.0078125
growth_interval = 2
stochastic_rounding = true
"""
"""The first scale is so large that the gradients of the activations leave float16."""
STEPS = 4


def numbers(dtype):
    """Magnitudes over the whole range, ties, subnormal numbers, the largest ones, zeros, infinities, NaN."""
    rng = np.random.default_rng(1)
    drawn = [
        rng.standard_normal(4000) * 10.0 ** rng.uniform(low, high, 4000) for low, high in ((-44, 38), (-9, 6))
    ]
    ties = np.concatenate(
        [(1.0 + 2.0**-k * np.arange(1, 16)) * 2.0**e for k in (8, 11) for e in (-30, -14, 0, 15)]
    )
    edges = [0.0, -0.0, np.inf, -np.inf, np.nan, 65504.0, 65519.0, 65520.0, 2.0**-24, 2.0**-25, -(2.0**-133)]
    with np.errstate(over="ignore"):
        return np.concatenate([*drawn, ties, -ties, edges]).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("form", ["float16", "bfloat16"])
def test_numbers_are_rounded_to_the_bits_of_the_oracle(dtype, form):
    x = numbers(dtype)
    found = x.copy()
    round_flat(found, FORMS[form])
    law = round_weights(x, form)
    real = ~np.isnan(x)
    assert found[real].tobytes() == law[real].tobytes()
    assert np.isnan(found[~real]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_are_rounded_at_random_as_by_the_oracle(dtype):
    x = numbers(dtype)
    x = x[~np.isnan(x)]
    found, noise = x.copy(), StochasticRounding(5)
    noise.step = 2**33
    noise.round(found)
    assert found.tobytes() == round_stochastically(x, 5, 2**33).tobytes()
    assert noise.step == 2**33 + 1
    again = x.copy()
    round_at_random(again, words(x.size, 5, 2**33))
    assert again.tobytes() == found.tobytes()


def batch(rows=9, length=7):
    rng = np.random.default_rng(0)
    real = np.arange(length) < rng.integers(1, length + 1, rows)[:, None]
    tokens, targets = rng.integers(0, SMALL.vocab_size, (2, rows, length))
    return Batch(tokens, targets, real, real)


def gradients(dtype="float32", cuts=1, **how):
    """(bytes of the gradients and of the losses, the model) of a batch in so many micro-batches."""
    model = MiniGPT(SMALL, dtype, initial_parameters(3, SMALL), **how)
    dropout, whole, nll = Dropout(0.3, stream_key(1, "control"), 4), batch(), 0.0
    model.zero_gradients()
    for part in whole.split(cuts):
        nll = model.accumulate(part, dropout, whole.tokens, nll)
        dropout = dropout.advance(len(part.input))
    model.finish_gradients()
    return model.flat_gradients.tobytes() + nll.hex().encode(), model


@pytest.mark.parametrize("autocast", FORMS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_recomputation_changes_no_bit_and_takes_less_memory(dtype, autocast):
    plain, kept = gradients(dtype, autocast=autocast)
    again, model = gradients(dtype, autocast=autocast, recompute=True)
    assert again == plain == gradients(dtype, cuts=3, autocast=autocast, recompute=True)[0]
    assert kept.block_passes() == [1] * 3
    assert model.block_passes() == [2] * 3
    assert model.workspace_bytes() < 0.7 * kept.workspace_bytes()


def test_autocast_changes_gradients_and_no_evaluation():
    found = {form: gradients(autocast=form) for form in FORMS}
    assert len({bits for bits, _ in found.values()}) == 3
    evaluated = {model.nll(batch()).hex() for _, model in found.values()}
    assert len(evaluated) == 1
    layers = [model.forward_layers(batch().input, batch().key_mask) for _, model in found.values()]
    for name, x in layers[0].items():
        assert all(x.tobytes() == other[name].tobytes() for other in layers)


def test_recomputed_layers_are_those_of_the_forward_pass():
    plain, again = (gradients(recompute=how)[1] for how in (False, True))
    layers = [model.forward_layers(batch().input, batch().key_mask) for model in (plain, again)]
    for name, x in layers[0].items():
        assert layers[1][name].tobytes() == x.tobytes(), name


class Machines:
    """A model with its optimizer, schedule and loss scale."""

    def __init__(self, scale, interval=2):
        self.model = MiniGPT(SMALL, "float32", initial_parameters(3, SMALL), autocast="float16")
        self.optimizer = AdamW(self.model.shapes, "float32", OptimizerConfig())
        self.schedule = Schedule(peak=1e-2, floor=1e-3, warmup=2, total=9)
        self.scaler = LossScale(PrecisionConfig(init_scale=scale, growth_interval=interval))

    def step(self):
        dropout = Dropout(0.1, stream_key(0, "control"), self.schedule.step)
        return update(self.model, self.optimizer, self.schedule, dropout, [batch()], 1.0, scaler=self.scaler)

    def kept(self):
        """Everything that a skipped update must leave as it is."""
        state = self.optimizer.state() | self.model.state() | self.schedule.state()
        return {name: x.tobytes() if isinstance(x, np.ndarray) else x for name, x in state.items()}


def test_an_update_whose_gradients_overflow_is_not_made():
    machines = Machines(2.0**60)
    before, skipped = machines.kept(), 0
    while machines.schedule.step == 0:
        try:
            made = machines.step()
        except SkippedUpdate:
            skipped += 1
            assert machines.kept() == before
            assert machines.scaler.scale == 2.0 ** (60 - skipped)
    assert made.skipped == skipped > 5
    assert made.loss_scale == machines.scaler.scale
    assert machines.kept() != before


def test_the_scale_is_not_seen_in_the_update():
    """A power of two changes no bit where nothing overflows or is lost."""
    losses, kept = set(), []
    for scale in (1.0, 2.0**10):
        machines = Machines(scale, interval=99)
        machines.model = MiniGPT(SMALL, "float32", initial_parameters(3, SMALL))
        losses.add(machines.step().grad_norm)
        kept.append(machines.kept())
    assert len(losses) == 1
    assert kept[0] == kept[1]


def test_a_scale_without_end_is_refused():
    scaler = LossScale(PrecisionConfig())
    with pytest.raises(NonFiniteError, match="overflow at a loss scale"):
        for _ in itertools.count():
            scaler.settle(False)
    state = scaler.state()
    other = LossScale(PrecisionConfig())
    other.restore(json.loads(json.dumps(state)))
    assert other.state() == state


def trained(folder, stops):
    """SHA-256 of what a run left that was stopped and resumed after these steps; its log."""
    (folder / "config.toml").write_text(SETTINGS)
    out = folder / "run"
    for number, stop in enumerate([*stops, STEPS]):
        options = ["--config", str(folder / "config.toml"), "--out", str(out), "--steps", str(STEPS)]
        options += ["--stop-after", str(stop), *["--resume"] * (number > 0)]
        env = os.environ | {"HONESTLOOP_TRACKING": "off", "HONESTLOOP_PLOTS": "off"}
        command = [sys.executable, "-m", "impl", "train", *options]
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    last, whole = out / "checkpoints" / f"step-{STEPS:08}", hashlib.sha256()
    for name in ("weights.safetensors", "optimizer.safetensors", "state.json"):
        whole.update((last / name).read_bytes())
    log = (out / "train_log.jsonl").read_text()
    return whole.hexdigest() + log, log


def test_a_run_with_everything_on_resumes_bit_for_bit_at_every_step(tmp_path):
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    whole, log = trained(tmp_path / "whole", ())
    cut, _ = trained(tmp_path / "cut", range(1, STEPS))
    assert cut == whole
    records = [json.loads(line) for line in log.splitlines()]
    assert [record["step"] for record in records] == [1, 2, 3, 4]
    assert records[0]["skipped"] > 0
    assert records[-1]["loss_scale"] > records[0]["loss_scale"]  # it has grown again


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """precision_results.json of a run of two updates."""
    folder = tmp_path_factory.mktemp("drift")
    env = os.environ | {"HONESTLOOP_TRACKING": "off", "HONESTLOOP_PLOTS": "off"}
    for options in (["train", "--out", "run", "--steps", "2"], ["drift", "--run", "run", "--out", "found"]):
        command = [sys.executable, "-m", "impl", *options]
        env = env | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return json.loads((folder / "found" / "precision_results.json").read_text())


def test_gradients_drift_more_in_the_coarser_type(finished):
    errors = {form: found["relative_error"] for form, found in finished["gradients"].items()}
    assert list(errors["float16"]) == ["E", "block_0", "block_1", "ln_final"]
    for layer, error in errors["float16"].items():
        assert 0.0 < error < errors["bfloat16"][layer] < 1.0


def test_a_loss_scale_keeps_gradients_that_float16_would_lose(finished):
    lost = finished["gradients"]["float16"]["lost"]
    total = {
        scale: sum(found["underflow"] for found in by_layer.values()) for scale, by_layer in lost.items()
    }
    assert total["65536"] < total["1"]
    assert all(found["overflow"] == 0 for by_layer in lost.values() for found in by_layer.values())
    kept = finished["gradients"]["bfloat16"]["lost"]["1"]
    assert sum(found["underflow"] for found in kept.values()) <= total["65536"]


def test_eight_bits_drift_as_their_resolution_says(finished):
    found = finished["weights"]
    for layer, error in found["float8_e4m3fn"]["relative_error"].items():
        assert 0.0 < error < 1.0, layer
    assert found["float8_e4m3fn"]["underflow"] > found["float8_e5m2"]["underflow"]
