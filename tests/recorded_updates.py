"""Updates to audit: made by PyTorch in every form and by optax, and by an AdamW in NumPy with one mistake in it."""

import contextlib
import itertools
import math
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from torch import nn

from gates.judge.declared_optimizer import DeclaredOptimizer
from gates.judge.recorded_update import RecordedUpdate
from gates.subject.recorded_directory import Snapshot
from honestloop.conventions import Conventions
from honestloop.description import Description, Level

SETTINGS = {
    "peak_lr": 3e-3,
    "min_lr": 3e-4,
    "warmup_steps": 4,
    "beta1": 0.9,
    "beta2": 0.99,
    "eps": 1e-8,
    "weight_decay": 0.1,
    "clip_norm": 1.0,
    "decayed": ["*weight*"],
}
STEPS = 14


def declared(conventions=(), **changes):
    """What a run declares."""
    description = Description("a run", Level.RECORD, conventions=Conventions(**dict(conventions)))
    return DeclaredOptimizer.read(description, {"optimizer": SETTINGS | changes}, STEPS)


def rate(step, conventions=()):
    """Of the update `step`, counted from 1."""
    return declared(conventions).rate(step - 1)


# ---- PyTorch


class Model(nn.Module):
    """An embedding, a hidden layer, a norm and a head: matrices, biases and gains."""

    def __init__(self, dtype):
        super().__init__()
        self.weight_table = nn.Parameter(torch.randn(40, 24, dtype=dtype))
        self.hidden = nn.Linear(24, 48, dtype=dtype)
        self.norm = nn.LayerNorm(48, dtype=dtype)
        self.head = nn.Linear(48, 40, dtype=dtype)
        self.norm.register_parameter("gain", self.norm.weight)
        del self.norm._parameters["weight"]

    def forward(self, x):
        h = self.hidden(self.weight_table[x].mean(dim=1))
        h = nn.functional.layer_norm(h, (48,), self.norm.gain, self.norm.bias)
        return self.head(torch.nn.functional.gelu(h))


@dataclass
class TorchForm:
    """One way in which PyTorch makes the same update."""

    options: dict = field(default_factory=dict)
    dtype: torch.dtype = torch.float32
    autocast: bool = False
    scaled: bool = False


TORCH = {
    "loop": TorchForm({"foreach": False}),
    "foreach": TorchForm({"foreach": True}),
    "fused": TorchForm({"fused": True}),
    "float64": TorchForm({"foreach": False}, torch.float64),
    "fused float64": TorchForm({"fused": True}, torch.float64),
    "bfloat16 autocast": TorchForm({"foreach": True}, autocast=True),
    "loss scaling": TorchForm({"foreach": True}, scaled=True),
}


def torch_run(form, steps=STEPS, seed=0):
    """The updates of a small PyTorch run; with loss scaling, one of them is skipped."""
    torch.manual_seed(seed)
    model = Model(form.dtype)
    decays = [p for n, p in model.named_parameters() if "weight" in n]
    others = [p for n, p in model.named_parameters() if "weight" not in n]
    groups = [
        {"params": decays, "weight_decay": SETTINGS["weight_decay"]},
        {"params": others, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1.0, betas=(0.9, 0.99), eps=SETTINGS["eps"], **form.options)
    generator = torch.Generator().manual_seed(seed)
    snapshots, lines = [torch_snapshot(0, model, optimizer)], {}
    made = 0
    for step in range(1, steps + 1):
        skip = form.scaled and step == 3
        for group in optimizer.param_groups:
            group["lr"] = rate(made + 1)
        x = torch.randint(40, (8, 5), generator=generator)
        context = torch.autocast("cpu", torch.bfloat16) if form.autocast else contextlib.nullcontext()
        with context:
            loss = nn.functional.cross_entropy(model(x).to(form.dtype), x[:, 0]) * (5.0 if step % 3 else 0.2)
        optimizer.zero_grad()
        (loss * (1024.0 if form.scaled else 1.0)).backward()
        for p in model.parameters():
            if form.scaled:
                p.grad /= 1024.0 if not skip else 0.0
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), SETTINGS["clip_norm"])
        line = {"step": step, "loss": loss.item(), "lr": rate(made + 1), "grad_norm": norm.item()}
        if skip:
            line |= {"skipped": True, "grad_norm": None}
        else:
            optimizer.step()
            made += 1
        lines[step] = line
        snapshots.append(torch_snapshot(step, model, optimizer, made))
    return paired(snapshots, lines)


def torch_snapshot(step, model, optimizer, t=0):
    """Copies of everything, by name."""
    named = {n: (p.detach().numpy().copy(), optimizer.state.get(p, {})) for n, p in model.named_parameters()}
    kept = {n: state for n, (_, state) in named.items() if state}
    m, v = ({n: s[key].numpy().copy() for n, s in kept.items()} for key in ("exp_avg", "exp_avg_sq"))
    return Snapshot(step, {n: p for n, (p, _) in named.items()}, m, v, t)


def paired(snapshots, lines):
    """Updates between neighbouring snapshots."""
    found, made = [], 0
    for before, after in itertools.pairwise(snapshots):
        line = lines[after.step]
        made += line.get("skipped") is not True
        around = {"before": lines.get(after.step - 1), "after": lines.get(after.step + 1)}
        rates = {f"the rate of the update {w}": x["lr"] for w, x in around.items() if x}
        found.append(RecordedUpdate(f"update {after.step}", before, after, line, made, rates))
    return found


# ---- optax

OPTAX = {"scalars": "dtype", "decay": "with", "clip": "optax", "schedule": "optax"}


def optax_run(steps=STEPS, seed=0):
    """The updates of a small JAX run, compiled."""
    rng = np.random.default_rng(seed)
    params = {
        "weight": jnp.asarray(rng.normal(0, 0.1, (24, 32)), jnp.float32),
        "head.weight": jnp.asarray(rng.normal(0, 0.1, (32, 24)), jnp.float32),
        "bias": jnp.zeros(32, jnp.float32),
    }
    schedule = optax.warmup_cosine_decay_schedule(0.0, 3e-3, 4, STEPS, 3e-4)
    mask = {name: "weight" in name for name in params}
    tx = optax.chain(
        optax.clip_by_global_norm(SETTINGS["clip_norm"]),
        optax.adamw(schedule, b1=0.9, b2=0.99, eps=SETTINGS["eps"], weight_decay=0.1, mask=mask),
    )
    state = tx.init(params)

    def loss(p, x, y):
        logits = jnp.tanh(x @ p["weight"] + p["bias"]) @ p["head.weight"]
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean() * 4.0

    @jax.jit
    def update(p, s, x, y):
        value, g = jax.value_and_grad(loss)(p, x, y)
        changes, s = tx.update(g, s, p)
        return optax.apply_updates(p, changes), s, value, optax.tree.norm(g)

    snapshots, lines = [optax_snapshot(0, params, state)], {}
    for step in range(1, steps + 1):
        x, y = rng.normal(0, 3, (16, 24)).astype(np.float32), rng.integers(0, 24, 16)
        params, state, value, norm = update(params, state, x, y)
        lines[step] = {
            "step": step,
            "loss": float(value),
            "lr": float(schedule(step - 1)),
            "grad_norm": float(norm),
        }
        snapshots.append(optax_snapshot(step, params, state))
    return paired(snapshots, lines)


def optax_snapshot(step, params, state):
    """Copies of everything, by name."""
    adam = state[1][0]
    named = ({n: np.array(x) for n, x in tree.items()} for tree in (params, adam.mu, adam.nu))
    return Snapshot(step, *named, int(adam.count))


# ---- NumPy, with a mistake


class AdamW:
    """PyTorch's AdamW in NumPy; every part may be overridden by a mistake."""

    dtype = np.float32

    def __init__(self, seed=0):
        rng = np.random.default_rng(seed)
        shapes = {"a.weight": (30, 20), "b.weight": (20, 25), "b.bias": (25,), "c.gain": (30,)}
        self.p = {n: rng.normal(0, 0.2, s).astype(self.dtype) for n, s in shapes.items()}
        self.p["c.gain"] += 1
        self.m, self.v = ({n: np.zeros_like(x) for n, x in self.p.items()} for _ in range(2))
        self.t, self.step, self.rng = 0, 0, rng

    def gradients(self):
        """Of sizes from 1e-9 to 1; their norm is below the limit in every third update."""
        big = 1.0 if self.step % 3 else 1e-2
        draw = {
            n: self.rng.normal(size=x.shape) * 10.0 ** self.rng.uniform(-9, 0, x.shape)
            for n, x in self.p.items()
        }
        return {n: (g * big).astype(self.dtype) for n, g in draw.items()}

    def norm(self, g):
        return math.sqrt(sum(float((x.astype(np.float64) ** 2).sum()) for x in g.values()))

    def clip(self, g):
        """(clipped, what is logged)"""
        norm = self.norm(g)
        factor = min(1.0, SETTINGS["clip_norm"] / (norm + 1e-6))
        return {n: x * self.dtype(factor) for n, x in g.items()}, norm

    def rate(self):
        """(used, logged)"""
        return rate(self.step), rate(self.step)

    def betas(self):
        return SETTINGS["beta1"], SETTINGS["beta2"]

    def decay(self, name):
        return SETTINGS["weight_decay"] if "weight" in name else 0.0

    def corrections(self):
        return tuple(1.0 - beta**self.t for beta in self.betas())

    def direction(self, m, v):
        c1, c2 = self.corrections()
        return (m / self.dtype(c1)) / (np.sqrt(v) / self.dtype(math.sqrt(c2)) + self.dtype(SETTINGS["eps"]))

    def decayed(self, p, d, lr, wd):
        return p * self.dtype(1.0 - lr * wd) - self.dtype(lr) * d

    def moments(self, name, g):
        b1, b2 = (self.dtype(b) for b in self.betas())
        w1, w2 = (self.dtype(1.0 - b) for b in self.betas())
        return b1 * self.m[name] + w1 * g, b2 * self.v[name] + w2 * (g * g)

    def update(self):
        """Make one; the line of the log."""
        self.step += 1
        self.t += 1
        g, norm = self.clip(self.gradients())
        used, logged = self.rate()
        for name in self.p:
            self.m[name], self.v[name] = self.moments(name, self.regularised(name, g[name]))
            d = self.direction(self.m[name], self.v[name])
            self.p[name] = self.decayed(self.p[name], d, used, self.decay(name)).astype(self.dtype)
        self.afterwards()
        return {"step": self.step, "loss": 1.0, "lr": logged, "grad_norm": norm}

    def regularised(self, name, g):
        return g

    def afterwards(self):
        pass

    def snapshot(self):
        copies = ({n: x.copy() for n, x in tree.items()} for tree in (self.p, self.m, self.v))
        return Snapshot(self.step, *copies, self.counted())

    def counted(self):
        return self.t


def numpy_run(optimizer, steps=STEPS):
    """The updates that an AdamW makes."""
    snapshots, lines = [optimizer.snapshot()], {}
    for step in range(1, steps + 1):
        lines[step] = optimizer.update()
        snapshots.append(optimizer.snapshot())
    return paired(snapshots, lines)
