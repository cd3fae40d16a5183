"""Windows of several batches, their counters, and what is minimised: the loop's own parts, step by step."""

import dataclasses
import functools
from typing import Any, cast

import numpy as np
import pytest

from impl.config import Config, LossConfig, ModelConfig, OptimizerConfig, load, preset
from impl.data.iterator import DataIterator, make_batch
from impl.data.windows import Counters, Windows
from impl.errors import UsageError
from impl.loop import build
from impl.model.dropout import NO_DROPOUT, Dropout
from impl.model.minigpt import MiniGPT
from impl.model.parameters import initial_parameters
from impl.update import update
from reference import bounds, gradients, model, training_loss, window_attention
from tests.test_impl_cli import process

PRESETS = ["phase18", "picollm", "honest", "autoresearch"]
SMALL = ModelConfig(d_model=8, n_heads=2, n_layers=2, d_ff=8, vocab_size=11, context=9)
STEPS = 7
LENGTHS = [3, 9, 5, 10, 4, 7, 2, 8, 6, 10, 3]


@dataclasses.dataclass
class Run:
    """What `build` needs of a run."""

    config: Config
    sequences: dict[str, list[list[int]]]


def sequences():
    rng = np.random.default_rng(3)
    return [rng.integers(0, SMALL.vocab_size, length).tolist() for length in LENGTHS]


def small(**settings):
    model = settings.pop("model", SMALL)
    optimizer = OptimizerConfig(warmup_steps=2)
    return Config(steps=STEPS, model=model, optimizer=optimizer, **{"batch_size": 2, "seed": 1} | settings)


def machines_of(config):
    return build(cast(Any, Run(config, {"train": sequences()})))


def advance(machines, config):
    """One update, as the loop makes it; its record."""
    batches = machines.windows.next()
    dropout = Dropout(config.dropout, *machines.control.next_step())
    window = [part for batch in batches for part in batch.split(config.micro_batches)]
    clip = config.optimizer.clip_norm
    made = update(machines.model, machines.optimizer, machines.scheduler, dropout, window, clip)
    return made.record() | machines.count(made.tokens)


def states(machines):
    return {name: machine.state() for name, machine in machines.named().items()}


def weights(machines):
    return machines.model.flat_parameters.tobytes()


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_accumulated_batches_give_the_bits_of_one_large_batch(micro_batches):
    """Eleven sequences: of two times 2 the last window of an epoch has 3, as the last batch of 4 has."""
    small_batches = small(accumulate=2, micro_batches=micro_batches)
    large = small(batch_size=4, counters=True)
    accumulated, whole = machines_of(small_batches), machines_of(large)
    for _ in range(STEPS):
        assert advance(accumulated, small_batches) == advance(whole, large)
        assert weights(accumulated) == weights(whole)


def of_preset(name):
    """A preset's settings, on a model and batches that are small."""
    said = load(preset(name))
    model = SMALL.model_copy(update={"softcap": said.model.softcap, "window": min(said.model.window, 4)})
    return said.model_copy(
        update={"model": model, "steps": STEPS, "batch_size": 3, "optimizer": OptimizerConfig(warmup_steps=2)}
    )


ALL_ON = small(
    accumulate=2,
    leftover="carry",
    micro_batches=2,
    loss=LossConfig(label_smoothing=0.1, z_loss=1e-3),
    model=SMALL.model_copy(update={"softcap": 5.0, "window": 3}),
)


@pytest.mark.parametrize("name", [*PRESETS, "all on"])
def test_every_step_is_a_place_to_resume_from(name):
    config = ALL_ON if name == "all on" else of_preset(name)
    whole = machines_of(config)
    cuts, records = [states(whole)], []
    for _ in range(STEPS):
        records.append(advance(whole, config))
        cuts.append(states(whole))
    for done, cut in enumerate(cuts):
        resumed = machines_of(config)
        for machine_name, machine in resumed.named().items():
            machine.restore(cut[machine_name])
        assert [advance(resumed, config) for _ in range(done, STEPS)] == records[done:]
        assert weights(resumed) == weights(whole)


def test_a_run_resumed_without_its_counters_is_seen():
    whole = machines_of(ALL_ON)
    records = [advance(whole, ALL_ON) for _ in range(3)]
    cut = states(whole)
    records.append(advance(whole, ALL_ON))
    resumed = machines_of(ALL_ON)
    for name, machine in resumed.named().items():
        if name != "counters":
            machine.restore(cut[name])
    assert advance(resumed, ALL_ON) != records[-1]


def oracle(monkeypatch, config):
    """The loss and gradients of the law, with the window and the objective of a configuration."""
    window = config.model.window
    forward = functools.partial(_windowed, window_attention.window_attention, window)
    backward = functools.partial(_windowed, window_attention.window_attention_backward, window)
    options = {**config.loss.model_dump(), "softcap": config.model.softcap}
    monkeypatch.setattr(model, "attention", forward)
    monkeypatch.setattr(gradients, "attention", forward)
    monkeypatch.setattr(gradients, "attention_backward", backward)
    law = functools.partial(training_loss.training_loss, **options)
    monkeypatch.setattr(gradients, "cross_entropy", lambda *args: (law(*args)[0], law(*args)[2]))
    return gradients.nll_and_gradients


def _windowed(attention, window, q, k, v, key_mask, *dout):
    return attention(q, k, v, key_mask, window, *dout)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_gradient_of_a_model_with_all_of_it_is_that_of_the_law(monkeypatch, dtype):
    config = ALL_ON.model_copy(update={"dropout": 0.0})
    params = initial_parameters(1, SMALL)
    params = {name: 20.0 * x if x.ndim == 2 else x for name, x in params.items()}
    params = {name: x.astype(np.float32).astype(np.float64) for name, x in params.items()}
    batch = make_batch(sequences())
    mini = MiniGPT(config.model, dtype, params, loss=config.loss)
    mini.zero_gradients()
    mini.accumulate(batch, NO_DROPOUT, batch.tokens)
    mini.finish_gradients()
    arrays = batch.input, batch.target, batch.loss_mask, batch.key_mask
    law = bounds.probable(
        oracle(monkeypatch, config), params, *arrays, config.model.model_dump(), dtype=np.dtype(dtype).type
    )
    assert bounds.compare_all({**mini.gradients}, law[1]).within


def test_what_is_minimised_is_beside_the_cross_entropy():
    plain, penalised = machines_of(small()), machines_of(small(loss=LossConfig(z_loss=0.1)))
    first, second = advance(plain, small()), advance(penalised, small(loss=LossConfig(z_loss=0.1)))
    assert first["loss"] == second["loss"] and "objective" not in first
    assert second["objective"] > second["loss"] and first["grad_norm"] != second["grad_norm"]


@pytest.mark.parametrize(
    ("leftover", "sizes"),
    [("update", [2, 2, 1, 2, 2, 1]), ("carry", [2, 2, 2, 2, 2]), ("drop", [2, 2, 2, 2])],
)
def test_the_leftover_of_an_epoch(leftover, sizes):
    """Two epochs of five batches: made an update, carried into the next window, or dropped before it."""
    data = DataIterator(sequences()[:10], 2, 0)
    counters = Counters(data.tokens_an_epoch)
    windows, epochs = Windows(data, 2, leftover, counters), []
    for size in sizes:
        window = windows.next()
        assert len(window) == size
        counters.update(sum(batch.tokens for batch in window))
        epochs.append(counters.epochs)
    assert counters.steps == len(sizes) and epochs == sorted(set(epochs))
    if leftover == "drop":
        assert data.state()["epoch"] == 1 and counters.tokens < counters.epochs * data.tokens_an_epoch
    else:
        assert epochs[-1] == 2 and counters.tokens == 2 * data.tokens_an_epoch


def test_windows_that_would_all_be_dropped_are_one_line():
    with pytest.raises(UsageError, match="an epoch has 2 batches, a window has 3: nothing would be trained"):
        Windows(DataIterator(sequences()[:4], 2, 0), 3, "drop")


def test_counters_inside_of_a_window_are_refused():
    counters = Counters(10)
    with pytest.raises(UsageError, match="between windows"):
        counters.restore({**counters.state(), "window_position": 1})


def test_a_preset_goes_on_in_fresh_processes(tmp_path):
    """Stopped after every update, and resumed: the checkpoint of the whole run, byte for byte."""
    common = ("--preset", "honest", "--steps", 9)
    assert not process("train", "--out", tmp_path / "whole", *common, "--stop-after", 3).returncode
    for step in (1, 2, 3):
        resume = ("--resume",) if step > 1 else ()
        assert not process(
            "train", "--out", tmp_path / "cut", *common, "--stop-after", step, *resume
        ).returncode
    parts = [tmp_path / name / "checkpoints" / "step-00000003" for name in ("whole", "cut")]
    files = [{f.name: f.read_bytes() for f in part.iterdir() if f.name != "manifest.json"} for part in parts]
    assert files[0] == files[1] and b'"counters"' in files[0]["state.json"]


def test_an_unknown_preset_names_those_there_are():
    with pytest.raises(UsageError, match="there are autoresearch, honest, phase18, picollm"):
        preset("nanogpt")
