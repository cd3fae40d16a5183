"""The recorder: run directories of PyTorch, optax and plain arrays, whole when interrupted and equal when resumed."""

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn

from honestloop.recorder import Recorder, RecorderError, adamw_settings
from honestloop.recorder import generators as generator_states
from honestloop.recorder.json_state import decode, encode
from honestloop.suite_location import ROOT
from tests.graded_examples import EXAMPLES

STEPS = 8
EVERY = 3


def tree(run):
    """Relative name -> bytes of everything in a run directory but its manifest, which says when the run began."""
    files = [path for path in sorted(run.rglob("*")) if path.is_file() and path != run / "manifest.json"]
    return {str(path.relative_to(run)): path.read_bytes() for path in files}


class Loop:
    """A PyTorch loop with dropout, running statistics, a schedule and three kinds of generators."""

    def __init__(self, out, **optimizer):
        torch.manual_seed(5)
        self.model = nn.Sequential(nn.Embedding(8, 16), nn.Dropout(0.1), nn.BatchNorm1d(16), nn.Linear(16, 8))
        parameters = list(self.model.parameters())
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.1},
            {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=1e-2, **optimizer)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: min(1.0, (step + 1) / 4)
        )
        self.generators: dict[str, Any] = {
            "rows": torch.Generator().manual_seed(3),
            "dropout": torch.default_generator,
            "noise": np.random.default_rng(4),
            "order": random.Random(5),
        }
        settings = adamw_settings(self.model, self.optimizer, clip_norm=1.0)
        self.recorder = Recorder(
            out, config={"batch_size": 4}, seed=1, optimizer_settings=settings, rng="mt19937"
        )
        self.start = self.recorder.resume(
            self.model, self.optimizer, scheduler=self.scheduler, generators=self.generators
        )

    def run(self, stop=STEPS, every=EVERY):
        for step in range(self.start.step + 1, stop + 1):
            rows = torch.randint(8, (4,), generator=self.generators["rows"])
            targets = (3 * rows + self.generators["order"].randrange(2)) % 8
            noise = float(self.generators["noise"].standard_normal())
            loss = nn.functional.cross_entropy(self.model(rows) * (1.0 + 0.01 * noise), targets)
            self.optimizer.zero_grad()
            loss.backward()
            norm = nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            (lr,) = {float(group["lr"]) for group in self.optimizer.param_groups}
            self.optimizer.step()
            self.scheduler.step()
            self.recorder.log(step=step, loss=loss, lr=lr, grad_norm=norm, rows=rows)
            if step % every == 0 or step == stop:
                self.recorder.save(step, extra={"position": step})
        if stop == STEPS:
            self.recorder.finish(loss=loss)
        return self


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run with a checkpoint at every step, 0 included."""
    out = tmp_path_factory.mktemp("whole") / "run"
    loop = Loop(out)
    loop.recorder.save(0)
    loop.run(every=1)
    return out


@pytest.mark.parametrize("optimizer", [{}, {"amsgrad": True}, {"fused": True}, {"foreach": True}])
def test_a_run_resumed_after_every_update_is_the_uninterrupted_one(tmp_path, optimizer):
    Loop(tmp_path / "whole", **optimizer).run(every=1)
    for stop in range(1, STEPS + 1):
        loop = Loop(tmp_path / "cut", **optimizer)
        assert loop.start.step == stop - 1
        assert loop.start.extra == ({"position": stop - 1} if stop > 1 else {})
        loop.run(stop, every=1)
    assert tree(tmp_path / "cut") == tree(tmp_path / "whole")


def test_an_optimizer_of_another_library_that_counts_in_integers_is_restored(tmp_path):
    """Adam-like optimizers of other libraries keep `step` as an int, and tensors under names of their own."""
    model = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    for parameter in list(model.parameters()):
        state = {"step": 3, "exp_avg": parameter.detach() + 1, "exp_avg_sq": parameter.detach() ** 2}
        optimizer.state[parameter] = {**state, "trust": parameter.detach() * 2, "note": [1, 2.5]}
    recorder = Recorder(tmp_path / "run", config={}, seed=0)
    recorder.resume(model, optimizer)
    recorder.save(0)
    before = {key: list(state.items()) for key, state in optimizer.state.items()}
    optimizer.state.clear()
    Recorder(tmp_path / "run", config={}, seed=0).resume(model, optimizer)
    for key, items in before.items():
        restored = optimizer.state[key]
        assert type(restored["step"]) is int
        assert list(map(str, sorted(restored.items()))) == list(map(str, sorted(items)))


def test_a_checkpoint_holds_the_parameters_and_moments_by_name(whole):
    loop = Loop(whole.parent / "copy").run(every=1)
    folder = whole / "checkpoints" / f"step-{STEPS:08d}"
    weights, moments = load_file(folder / "weights.safetensors"), load_file(folder / "optimizer.safetensors")
    named = dict(loop.model.named_parameters())
    assert weights.keys() == named.keys()
    assert moments.keys() == {"t", *(f"{kind}.{name}" for name in named for kind in "mv")}
    assert moments["t"] == STEPS
    for name, parameter in named.items():
        assert weights[name].tobytes() == parameter.detach().numpy().tobytes()
        assert moments[f"m.{name}"].tobytes() == loop.optimizer.state[parameter]["exp_avg"].numpy().tobytes()
        assert (
            moments[f"v.{name}"].tobytes() == loop.optimizer.state[parameter]["exp_avg_sq"].numpy().tobytes()
        )
    first = load_file(whole / "checkpoints" / "step-00000000" / "optimizer.safetensors")
    assert first.keys() == moments.keys() - {"t"}
    assert not any(x.any() for x in first.values())


def test_the_digests_are_those_of_the_files(whole):
    for folder in (whole / "checkpoints").iterdir():
        said = json.loads((folder / "manifest.json").read_bytes())["files"]
        files = [path for path in folder.iterdir() if path.name != "manifest.json"]
        assert said == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_manifest_tells_what_is_used(whole):
    said = json.loads((whole / "manifest.json").read_bytes())
    assert said["packages"]["numpy"] == np.__version__
    assert said["command_line"][0] == sys.executable
    assert said["rng"] == {"algorithm": "mt19937"}
    assert said["platform"]["devices"][0] == "cpu"
    settings = said["config"]["optimizer"]
    assert (settings["weight_decay"], settings["beta2"], settings["peak_lr"]) == (0.1, 0.999, 1e-2)
    assert settings["decayed"] == ["0.weight", "3.weight"]


def test_the_manifest_is_there_before_the_first_update(tmp_path):
    Recorder(tmp_path / "run", config={"a": 1}, seed=2**63)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["manifest.json"]
    assert json.loads((tmp_path / "run" / "manifest.json").read_bytes())["seed"] == str(2**63)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-3])


def change_tail(path):
    data = path.read_bytes()
    path.write_bytes(data[:-4] + bytes(255 - byte for byte in data[-4:]))


def link_away(path):
    path.rename(path.with_suffix(".away"))
    path.symlink_to(path.with_suffix(".away"))


@pytest.mark.parametrize("tear", [truncate, change_tail, Path.unlink, link_away])
@pytest.mark.parametrize(
    "file", ["weights.safetensors", "optimizer.safetensors", "state.json", "manifest.json"]
)
def test_a_torn_checkpoint_is_skipped_and_the_run_is_the_same(tmp_path, whole, tear, file):
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    tear(out / "checkpoints" / f"step-{STEPS:08d}" / file)
    loop = Loop(out)
    assert loop.start.step == STEPS - 1
    loop.run(every=1)
    assert tree(out) == tree(whole)


def test_lines_after_the_checkpoint_are_cut(tmp_path, whole):
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    for step in (6, 7, 8):
        shutil.rmtree(out / "checkpoints" / f"step-{step:08d}")
    with (out / "train_log.jsonl").open("ab") as log:
        log.write(b'{"step": 9, "lo')
    loop = Loop(out)
    assert loop.start.step == 5
    assert len((out / "train_log.jsonl").read_bytes().splitlines()) == 5
    assert tree(loop.run(every=1).recorder.path) == tree(whole)


def test_a_checkpoint_of_another_log_is_not_used(tmp_path, whole):
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    log = (out / "train_log.jsonl").read_bytes()
    (out / "train_log.jsonl").write_bytes(b" " + log)
    shutil.rmtree(out / "checkpoints" / "step-00000000")
    before = tree(out)
    with pytest.raises(RecorderError, match=r"no checkpoint can be used; .*train_log.jsonl is not the log"):
        Loop(out)
    assert tree(out) == before


def test_leftovers_of_a_killed_save_are_no_checkpoint_and_go_away(tmp_path, whole):
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    shutil.rmtree(out / "checkpoints" / f"step-{STEPS:08d}")
    torn = out / "checkpoints" / f".step-{STEPS:08d}.new.tmp"
    torn.mkdir()
    (torn / "weights.safetensors").write_bytes(b"torn")
    assert tree(Loop(out).run(every=1).recorder.path) == tree(whole)


def half(out, stop=STEPS):
    """A bfloat16 model whose float32 master copies are what AdamW updates."""
    torch.manual_seed(0)
    model = nn.Linear(4, 4).to(torch.bfloat16)
    masters = {name: p.detach().float() for name, p in model.named_parameters()}
    optimizer = torch.optim.AdamW(masters.values(), lr=1e-3)
    recorder = Recorder(out, config={}, seed=0)
    start = recorder.resume(model, optimizer, masters=masters)
    for step in range(start.step + 1, stop + 1):
        loss = (model(torch.ones(2, 4, dtype=torch.bfloat16)) ** 2).mean()
        model.zero_grad()
        loss.backward()
        for name, p in model.named_parameters():
            assert p.grad is not None
            masters[name].grad = p.grad.float()
        optimizer.step()
        with torch.no_grad():
            for name, p in model.named_parameters():
                p.copy_(masters[name])
        recorder.log(step=step, loss=loss, lr=1e-3)
        recorder.save(step)
    return model, masters


def test_of_parameters_in_bfloat16_the_master_copy_is_kept(tmp_path):
    _, masters = half(tmp_path / "whole")
    saved = load_file(tmp_path / "whole" / "checkpoints" / f"step-{STEPS:08d}" / "weights.safetensors")
    for name, master in masters.items():
        assert saved[name].dtype == np.float32
        assert saved[name].tobytes() == master.numpy().tobytes()
    half(tmp_path / "cut", stop=3)
    half(tmp_path / "cut")
    assert tree(tmp_path / "cut") == tree(tmp_path / "whole")


def test_parameters_in_bfloat16_without_a_master_copy_come_back_bit_for_bit(tmp_path):
    model = nn.Linear(3, 3).to(torch.bfloat16)
    optimizer = torch.optim.AdamW(model.parameters())
    recorder = Recorder(tmp_path / "run", config={}, seed=0)
    recorder.resume(model, optimizer)
    recorder.save(0)
    before = torch.clone(model.weight.detach())
    nn.init.zeros_(model.weight)
    Recorder(tmp_path / "run", config={}, seed=0).resume(model, optimizer)
    assert torch.equal(model.weight, before)


def optax_run(out, stop=STEPS):
    import jax
    import jax.numpy as jnp
    import optax

    parameters = {"layer": {"w": jnp.arange(6.0).reshape(2, 3) / 7, "b": jnp.zeros(3)}, "scale": jnp.ones(())}
    schedule = optax.linear_schedule(1e-2, 1e-3, STEPS)
    decayed = {"layer": {"w": True, "b": False}, "scale": False}
    adamw = optax.inject_hyperparams(optax.adamw, static_args=("mask",))
    transform = optax.chain(optax.clip_by_global_norm(1.0), adamw(schedule, weight_decay=0.1, mask=decayed))
    recorder = Recorder(out, config={}, seed=0, rng="threefry2x32")
    start = recorder.resume(parameters, transform.init(parameters))
    parameters, state, key = (
        start.model,
        start.optimizer,
        start.extra.get("key", jax.random.key_data(jax.random.key(7))),
    )
    for step in range(start.step + 1, stop + 1):
        key, now = jax.random.split(jax.random.wrap_key_data(jnp.asarray(key)))
        x = jax.random.normal(now, (4, 2))
        key = jax.random.key_data(key)
        loss, gradients = jax.value_and_grad(
            lambda p, x=x: jnp.mean((x @ p["layer"]["w"] + p["layer"]["b"]) ** 2) * p["scale"]
        )(parameters)
        updates, state = transform.update(gradients, state, parameters)
        parameters = optax.apply_updates(parameters, updates)
        recorder.log(step=step, loss=loss, lr=schedule(step - 1), grad_norm=optax.tree.norm(gradients))
        recorder.save(step, parameters, state, extra={"key": key})
    return parameters, state


def test_an_optax_run_has_its_moments_by_name_and_is_resumed_to_the_same_bits(tmp_path):
    parameters, _ = optax_run(tmp_path / "whole")
    folder = tmp_path / "whole" / "checkpoints" / f"step-{STEPS:08d}"
    weights, moments = load_file(folder / "weights.safetensors"), load_file(folder / "optimizer.safetensors")
    assert sorted(weights) == ["layer.b", "layer.w", "scale"]
    assert sorted(moments) == ["m.layer.b", "m.layer.w", "m.scale", "t", "v.layer.b", "v.layer.w", "v.scale"]
    assert moments["t"] == STEPS
    assert weights["layer.w"].tobytes() == np.asarray(parameters["layer"]["w"]).tobytes()
    for stop in (3, STEPS):
        optax_run(tmp_path / "cut", stop)
    assert tree(tmp_path / "cut") == tree(tmp_path / "whole")


def test_the_moments_of_several_optax_transforms_are_put_together(tmp_path):
    import jax.numpy as jnp
    import optax

    parameters = {"a": jnp.ones(2), "b": jnp.ones(3)}
    labels = {"a": "fast", "b": "slow"}
    transform = optax.multi_transform({"fast": optax.adam(1e-2), "slow": optax.adam(1e-3)}, labels)
    state = transform.init(parameters)
    _, state = transform.update({"a": jnp.ones(2), "b": jnp.ones(3) * 2}, state, parameters)
    recorder = Recorder(tmp_path / "run", config={}, seed=0)
    recorder.resume(parameters, state)
    folder = recorder.save(0)
    moments = load_file(folder / "optimizer.safetensors")
    assert sorted(moments) == ["m.a", "m.b", "t", "v.a", "v.b"]
    restored = Recorder(tmp_path / "run", config={}, seed=0).resume(parameters, transform.init(parameters))
    assert str(restored.optimizer) == str(state)


def test_an_optimizer_without_adams_moments_is_refused(tmp_path):
    import jax.numpy as jnp
    import optax

    parameters = {"a": jnp.ones(2)}
    recorder = Recorder(tmp_path / "run", config={}, seed=0)
    recorder.resume(parameters, optax.sgd(0.1).init(parameters))
    with pytest.raises(RecorderError, match="no ScaleByAdamState"):
        recorder.save(0)


def arrays_run(out, stop=STEPS):
    parameters = {"w": np.ones((2, 2)), "b": np.zeros(2, np.float32), "a": np.ones(3)}
    zeros = {name: np.zeros_like(x) for name, x in parameters.items()}
    moments = {"m": dict(zeros), "v": dict(zeros), "t": 0}
    recorder = Recorder(out, config={}, seed=0)
    start = recorder.resume(parameters, moments)
    parameters, moments = start.model, start.optimizer
    for step in range(start.step + 1, stop + 1):
        for name, p in parameters.items():
            moments["m"][name] = 0.9 * moments["m"][name] + 0.1 * p
            moments["v"][name] = 0.99 * moments["v"][name] + 0.01 * p * p
            parameters[name] = p - p.dtype.type(0.01)
        moments["t"] = step
        recorder.log(step=step, loss=np.float32(1.0), lr=0.01)
        recorder.save(step, parameters, moments)
    return parameters, moments


def test_plain_arrays_are_resumed_to_the_same_bits(tmp_path):
    arrays_run(tmp_path / "whole")
    arrays_run(tmp_path / "cut", 2)
    parameters, moments = arrays_run(tmp_path / "cut")
    assert (
        [*parameters] == [*moments["m"]] == [*moments["v"]] == ["w", "b", "a"]
    )  # a norm is added up in this order
    assert tree(tmp_path / "cut") == tree(tmp_path / "whole")


@pytest.mark.parametrize(
    "make",
    [
        lambda seed: torch.Generator().manual_seed(seed),
        lambda seed: np.random.default_rng(seed),
        lambda seed: np.random.Generator(np.random.Philox(seed)),
        lambda seed: np.random.Generator(np.random.MT19937(seed)),
        lambda seed: np.random.RandomState(seed),
        random.Random,
    ],
    ids=["torch", "pcg64", "philox", "mt19937", "randomstate", "random"],
)
def test_states_of_generators_survive_json(make):
    def draws(generator):
        if isinstance(generator, torch.Generator):
            return torch.randn(5, generator=generator).tolist()
        draw = generator.gauss if isinstance(generator, random.Random) else generator.normal
        return [draw(0.0, 1.0) for _ in range(5)]

    generator, other = make(1), make(2)
    draws(generator)
    text = json.dumps(encode(generator_states.state_of(generator, "g"), "g"), allow_nan=False)
    expected = draws(generator)
    generator_states.restore(other, decode(json.loads(text)), "g")
    assert draws(other) == expected


def test_what_is_no_generator_is_refused():
    with pytest.raises(RecorderError, match=r"generators\['g'\]: a int is none of torch.Generator"):
        generator_states.state_of(3, "g")
    with pytest.raises(RecorderError, match="not the state of a Random"):
        generator_states.restore(random.Random(), {"a": 1}, "g")


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, 2.5, "é", None, True], "b": {"c": (1, (2,))}},
        {1: "one", 2.5: [3]},
        {"$tuple": 1},
        {"$array": {"a": 1}},
        2**64 - 1,
        -(2**80),
        [0.1, 1e-320, -0.0],
        b"\x00\xff",
        float("inf"),
    ],
)
def test_values_survive_json(value):
    back = decode(json.loads(json.dumps(encode(value, "v"), allow_nan=False)))
    assert repr(back) == repr(value)


def test_arrays_survive_json():
    for array in (
        np.arange(6, dtype=">i2").reshape(2, 3),
        np.array([[0.1]], np.float32),
        np.zeros((0, 2)),
        np.array(True),
    ):
        back = decode(json.loads(json.dumps(encode(array, "v"))))
        assert back.dtype == array.dtype.newbyteorder("=")
        assert back.shape == array.shape
        assert np.array_equal(back, array)
    back = decode(json.loads(json.dumps(encode(torch.arange(3), "v"))))
    assert torch.equal(back, torch.arange(3))


@pytest.mark.parametrize("value", [lambda: 1, object(), np.array([object()]), {"a": [print]}, {1, 2}])
def test_what_is_no_value_is_refused_with_its_place(value):
    with pytest.raises(RecorderError, match=r"^scheduler.*cannot be saved as JSON"):
        encode(value, "scheduler")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"step": 2, "loss": 1.0, "lr": 0.1}, "step 2 does not follow step 0"),
        ({"step": 1, "loss": float("nan"), "lr": 0.1}, "loss is nan: nothing that is not finite is kept"),
        ({"step": 1, "loss": torch.tensor(float("inf")), "lr": 0.1}, "loss is inf"),
        ({"step": 1, "loss": 1.0, "lr": 0.1, "grads": [1.0, float("nan")]}, "grads is nan"),
        ({"step": 1, "loss": 1.0, "lr": 0.1, "model": object()}, "model: a object is no value of JSON"),
    ],
)
def test_a_line_that_is_wrong_is_refused_and_not_written(tmp_path, line, message):
    recorder = Recorder(tmp_path / "run", config={}, seed=0)
    recorder.resume()
    with pytest.raises(RecorderError, match=message):
        recorder.log(**line)
    assert (tmp_path / "run" / "train_log.jsonl").read_bytes() == b""


def test_wrong_use_is_one_line(tmp_path, whole):
    recorder = Recorder(tmp_path / "run", config={"a": 1}, seed=0)
    with pytest.raises(RecorderError, match=r"call resume\(\) before the first update"):
        recorder.log(step=1, loss=1.0, lr=1.0)
    recorder.resume()
    with pytest.raises(RecorderError, match=r"save\(3\): the last line of the log is of step 0"):
        recorder.save(3)
    with pytest.raises(RecorderError, match="needs a model and an optimizer"):
        recorder.save(0)
    with pytest.raises(RecorderError, match="began with a = 1, not 2"):
        Recorder(tmp_path / "run", config={"a": 2}, seed=0)
    with pytest.raises(RecorderError, match="began with seed = '0', not '1'"):
        Recorder(tmp_path / "run", config={"a": 1}, seed=1)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").touch()
    with pytest.raises(RecorderError, match=r"holds thesis.txt and no manifest.json: not a run directory"):
        Recorder(tmp_path / "other", config={}, seed=0)
    with pytest.raises(RecorderError, match="is no folder"):
        Recorder(tmp_path / "other" / "thesis.txt", config={}, seed=0)
    with pytest.raises(RecorderError, match="optimizer_settings: beta1 is missing"):
        Recorder(tmp_path / "new", config={}, seed=0, optimizer_settings={"peak_lr": 1.0})
    assert not (tmp_path / "new").exists()


def test_another_model_or_optimizer_is_refused(tmp_path, whole):
    def resumed(change):
        shutil.copytree(whole, tmp_path / change)
        loop = Loop(tmp_path / "fresh")
        recorder = Recorder(tmp_path / change, **again)
        return loop, recorder

    said = json.loads((whole / "manifest.json").read_bytes())
    again = {"config": said["config"], "seed": int(said["seed"])}
    loop, recorder = resumed("a")
    with pytest.raises(RecorderError, match="generators: only the checkpoint has 'dropout'"):
        recorder.resume(loop.model, loop.optimizer, scheduler=loop.scheduler)
    states = {"scheduler": loop.scheduler, "generators": loop.generators}
    small = nn.Sequential(nn.Embedding(8, 4), nn.Dropout(0.1), nn.BatchNorm1d(4), nn.Linear(4, 8))
    with pytest.raises(
        RecorderError,
        match=r"0.weight: the checkpoint has torch.float32 \(8, 16\), the model torch.float32 \(8, 4\)",
    ):
        recorder.resume(small, torch.optim.AdamW(small.parameters()), **states)
    with pytest.raises(RecorderError, match="the model has no tensor of that name"):
        recorder.resume(nn.Linear(2, 2), loop.optimizer, **states)
    with pytest.raises(RecorderError, match="groups hold other parameters"):
        recorder.resume(loop.model, torch.optim.AdamW(loop.model.parameters()), **states)
    with pytest.raises(RecorderError, match="of kind 'torch', the optimizer given of kind 'arrays'"):
        recorder.resume({}, {"m": {}, "v": {}}, **states)


def test_a_parameter_without_a_name_is_refused(tmp_path):
    model = nn.Linear(2, 2)
    recorder = Recorder(tmp_path / "run", config={}, seed=0)
    recorder.resume(model, torch.optim.AdamW([nn.Parameter(torch.ones(2))]))
    with pytest.raises(RecorderError, match="no parameter of the model"):
        recorder.save(0)


def test_importing_it_imports_neither_torch_nor_jax():
    code = (
        "import honestloop.recorder, sys; print({'torch', 'jax', 'hypothesis', 'pytest'} & set(sys.modules))"
    )
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize("example", ["lightning_level2", "transformers_level2"])
def test_a_run_that_was_killed_between_its_last_checkpoint_and_its_results_ends_when_it_is_resumed(
    example, tmp_path
):
    out = tmp_path / "run"
    options = ["--out", str(out), "--steps", "4", "--save-every", "2"]
    command = [sys.executable, str(EXAMPLES / example / "train.py"), *options]
    for _ in range(2):
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=tmp_path)
        assert json.loads((out / "results.json").read_bytes())["steps"] == 4
        log = (out / "train_log.jsonl").read_bytes()
        (out / "results.json").unlink()
    assert len(log.splitlines()) == 4
