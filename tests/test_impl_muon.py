"""Muon in the loop: the oracle's numbers, the bits of one thread and of several, resumed after every update."""

import json
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from impl.config import Config, ModelConfig, MuonConfig, OptimizerConfig
from impl.model.parameters import named_views, parameter_shapes
from impl.optim.choice import optimizer_of
from impl.optim.muon import Muon, is_of_muon, ranges
from impl.optim.optimizer import AdamW
from reference import muon, muon_bounds, optimizer
from reference.bounds import compare

MODEL = ModelConfig(d_model=8, n_heads=2, n_layers=2, d_ff=20, vocab_size=11, context=6)
SHAPES = parameter_shapes(MODEL)
STEPS = 6
MUON = MuonConfig(enabled=True, momentum_ramp=2, momentum_cooldown=2, momentum_end=0.9, weight_decay=0.5)
FEW = {"E": (3, 4), "block_0.W_1": (5, 9), "block_0.b_1": (9,), "block_0.W_2": (9, 5)}
LOCKED = parameter_shapes(ModelConfig())


def optimizer_(dtype="float64", shapes=SHAPES, muon=MUON, steps=STEPS):
    return Muon(shapes, dtype, OptimizerConfig(), muon, steps)


def buffers(shapes=SHAPES, dtype="float64", updates=STEPS):
    size = sum(int(np.prod(shape)) for shape in shapes.values())
    rng = np.random.default_rng(3)
    return rng.standard_normal(size).astype(dtype), rng.standard_normal((updates, size)).astype(dtype)


def in_law(x):
    """A matrix [inputs, outputs] as the law has it."""
    return np.asarray(x, np.float64).T.copy()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_update_is_that_of_the_oracles(dtype):
    """Of each matrix by Muon, of all else by AdamW; at the momentum and the decay of its number."""
    parameters, gradients = buffers(dtype=dtype)
    one, settings = optimizer_(dtype), OptimizerConfig()
    ramp: dict[str, Any] = {"start": 0.85, "peak": 0.95, "final": 0.9, "ramp": 2, "cooldown": 2}
    momenta = [muon.momentum_at(step, total=STEPS, **ramp) for step in range(STEPS)]
    decays = [muon.weight_decay_at(step, initial=0.5, total=STEPS) for step in range(STEPS)]
    for step, gradient in enumerate(gradients):
        before = {name: x.copy() for name, x in named_views(parameters, SHAPES).items()}
        state, clip, lr = one.state(), 0.25, 0.004 * (1.0 - step / STEPS)
        one.update(parameters, gradient, lr, clip)
        after = one.state()
        for name, g in named_views(gradient, SHAPES).items():
            new, clipped = named_views(parameters, SHAPES)[name], np.asarray(g * g.dtype.type(clip))
            if is_of_muon(name):
                second = state[f"second.{name}"].astype(np.float64)
                shape = (-1, 1) if g.shape[1] >= g.shape[0] else (1, -1)
                how: dict[str, Any] = {"mu": momenta[step], "weight_decay": decays[step], "beta2": 0.95}
                law = muon_bounds.stepped(
                    in_law(before[name]),
                    in_law(clipped),
                    in_law(state[f"momentum.{name}"]),
                    second.reshape(shape),
                    dtype=dtype,
                    t=step + 1,
                    lr=lr * 5.0,
                    **how,
                )
                moments = after[f"second.{name}"].reshape(shape)
                got = in_law(new), in_law(after[f"momentum.{name}"]), moments
                assert all(compare(a, b.value, b.bound).within for a, b in zip(got, law, strict=True)), name
            else:
                adam: dict[str, Any] = {"beta1": settings.beta1, "beta2": settings.beta2, "eps": settings.eps}
                law_p, _, _ = optimizer.adamw_step(
                    before[name].astype(np.float64),
                    clipped.astype(np.float64),
                    state[f"m.{name}"].astype(np.float64),
                    state[f"v.{name}"].astype(np.float64),
                    t=step + 1,
                    lr=lr,
                    weight_decay=settings.weight_decay if name == "E" else 0.0,
                    **adam,
                )
                assert np.abs(new - law_p).max() < 64 * np.finfo(dtype).eps


def test_every_parameter_is_updated_once():
    """By one of the two; the embedding, biases and gains by AdamW."""
    state = optimizer_().state()
    of_muon = {name.partition(".")[2] for name in state if name.startswith("momentum.")}
    of_adamw = {name.partition(".")[2] for name in state if name.startswith("m.")}
    assert of_muon | of_adamw == set(SHAPES) and not of_muon & of_adamw
    assert of_muon == {name for name, shape in SHAPES.items() if len(shape) == 2 and name != "E"}
    rest = {name: shape for name, shape in SHAPES.items() if not is_of_muon(name)}
    covered = [i for there, _ in ranges(SHAPES, rest) for i in range(there.start, there.stop)]
    assert len(set(covered)) == len(covered) == sum(int(np.prod(shape)) for shape in rest.values())


@pytest.mark.parametrize("cut", range(STEPS))
def test_restored_after_every_update_it_goes_on_with_the_same_bits(cut):
    parameters, gradients = buffers(dtype="float32")
    whole, one = parameters.copy(), optimizer_("float32")
    for gradient in gradients:
        one.update(whole, gradient, 0.01, 0.5)
    first, second = optimizer_("float32"), optimizer_("float32")
    for gradient in gradients[:cut]:
        first.update(parameters, gradient, 0.01, 0.5)
    second.restore(first.state())
    for gradient in gradients[cut:]:
        second.update(parameters, gradient, 0.01, 0.5)
    assert parameters.tobytes() == whole.tobytes()


@pytest.mark.parametrize("lost", ["momentum.block_0.attn.W_q", "second.block_1.ffn.W_2", "m.E", "t"])
def test_a_part_of_the_state_that_is_lost_shows(lost):
    parameters, gradients = buffers(dtype="float32")
    first, second = optimizer_("float32"), optimizer_("float32")
    for gradient in gradients[:3]:
        first.update(parameters, gradient, 0.01, 0.5)
    state, other = first.state(), parameters.copy()
    first.update(parameters, gradients[3], 0.01, 0.5)
    second.restore(state | {lost: state[lost] * 0})
    second.update(other, gradients[3], 0.01, 0.5)
    assert parameters.tobytes() != other.tobytes()


def test_any_order_of_the_matrices_gives_the_same_bits():
    """Whichever thread takes which: one that took every other matrix before the first began."""
    parameters, gradients = buffers(LOCKED, "float32", 1)
    one = optimizer_("float32", LOCKED)
    results = []
    for order in (slice(None), slice(None, None, -1)):
        p, again = parameters.copy(), optimizer_("float32", LOCKED)
        again._table, again._scales = again._table[order].copy(), again._scales[order].copy()
        again.update(p, gradients[0], 0.01)
        results.append((p.tobytes(), again.state()["momentum.block_0.ffn.W_1"].tobytes()))
    one.update(parameters, gradients[0], 0.01)
    assert (
        results[0] == results[1] == (parameters.tobytes(), one.state()["momentum.block_0.ffn.W_1"].tobytes())
    )


def test_interpreted_it_has_the_bits_of_the_compiled_kernel():
    script = """
import numpy as np
from tests.test_impl_muon import FEW, buffers, optimizer_
parameters, gradients = buffers(FEW, "float32", 1)
optimizer_("float32", FEW).update(parameters, gradients[0], 0.01)
print(parameters.tobytes().hex())
"""
    compiled, interpreted = (
        subprocess.run(
            [sys.executable, "-c", script],
            env=os.environ | setting,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for setting in ({}, {"NUMBA_DISABLE_JIT": "1"})
    )
    assert compiled == interpreted and compiled


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e15])
def test_a_gradient_of_any_size_leaves_numbers(size):
    parameters, gradients = buffers(dtype="float32", updates=1)
    optimizer_("float32").update(parameters, np.float32(size) * gradients[0], 0.01)
    assert np.all(np.isfinite(parameters))


SMALL = """
steps = 4
batch_size = 8
dropout = 0.1
eval_every = 2
checkpoint_every = 2

[muon]
enabled = true
"""


def test_a_run_that_is_stopped_and_resumed_is_the_same_to_the_byte(tmp_path, monkeypatch):
    """Through `python -m impl`; every file of its checkpoints but the manifest, which has the time."""
    monkeypatch.setenv("HONESTLOOP_TRACKING", "off")
    (tmp_path / "muon.toml").write_text(SMALL)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    begin = ["train", "--config", str(tmp_path / "muon.toml"), "--out"]
    for arguments in (
        [*begin, str(whole)],
        [*begin, str(parts), "--stop-after", "1"],
        ["train", "--resume", "--stop-after", "3", "--out", str(parts)],
        ["train", "--resume", "--out", str(parts)],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "impl", *arguments], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    for name in ("weights.safetensors", "optimizer.safetensors", "state.json"):
        files = [(run / "checkpoints/step-00000004" / name).read_bytes() for run in (whole, parts)]
        assert files[0] == files[1], name
    log = [json.loads(line) for line in (whole / "train_log.jsonl").read_text().splitlines()]
    assert log[-1]["loss"] < log[0]["loss"]
    assert (whole / "train_log.jsonl").read_bytes() == (parts / "train_log.jsonl").read_bytes()


def test_without_the_setting_it_is_adamw():
    assert isinstance(optimizer_of(Config(), SHAPES), AdamW)
    assert isinstance(optimizer_of(Config(muon=MuonConfig(enabled=True)), SHAPES), Muon)
