"""A small JAX language model with optax's AdamW; Recorder finds the moments in the optimizer's state."""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
import optax

from honestloop import Recorder

VOCAB, WIDTH, CONTEXT, BATCH = 31, 32, 16, 8
OPTIMIZER = {"beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "weight_decay": 0.1, "clip_norm": 0.3}
PEAK, FLOOR, WARMUP = 1e-2, 1e-3, 5


def text(rows=100):
    """Sequences in which each of 31 tokens has two successors."""
    draw = np.random.default_rng(0)
    start = draw.integers(VOCAB, size=(rows, 1))
    return (start + 3 * np.arange(CONTEXT + 1) + draw.integers(2, size=(rows, CONTEXT + 1))) % VOCAB


def initial(key):
    keys = iter(jax.random.split(key, 4))
    weight = {
        "tokens": (VOCAB, WIDTH),
        "mix": (CONTEXT, CONTEXT),
        "feed": (WIDTH, WIDTH),
        "head": (WIDTH, VOCAB),
    }
    shapes = {name: {"w": 0.2 * jax.random.normal(next(keys), shape)} for name, shape in weight.items()}
    return shapes | {"head": shapes["head"] | {"b": jnp.zeros(VOCAB)}}


def loss_of(parameters, rows, key):
    """The mean loss of the next token; each place mixes the places before it, one embedding in ten is dropped."""
    x = parameters["tokens"]["w"][rows[:, :-1]]
    x = x * jax.random.bernoulli(key, 0.9, x.shape) / 0.9
    x = x + jnp.einsum("ts,bsd->btd", jnp.tril(parameters["mix"]["w"]), x)
    x = x + jax.nn.gelu(x @ parameters["feed"]["w"])
    logits = x @ parameters["head"]["w"] + parameters["head"]["b"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, rows[:, 1:]).mean()


def optimizer_of(steps):
    schedule = optax.warmup_cosine_decay_schedule(0.0, PEAK, WARMUP, steps, FLOOR)
    adamw = optax.adamw(
        schedule,
        OPTIMIZER["beta1"],
        OPTIMIZER["beta2"],
        OPTIMIZER["eps"],
        weight_decay=OPTIMIZER["weight_decay"],
        mask=lambda parameters: jax.tree.map(lambda x: x.ndim > 1, parameters),
    )
    return schedule, optax.chain(optax.clip_by_global_norm(OPTIMIZER["clip_norm"]), adamw)


def train(out, seed, steps, save_every, stop_after):
    data, (schedule, transform) = text(), optimizer_of(steps)
    parameters = initial(jax.random.key(seed))
    state = transform.init(parameters)

    @jax.jit
    def update(parameters, state, rows, key):
        loss, gradients = jax.value_and_grad(loss_of)(parameters, rows, key)
        norm = optax.tree.norm(gradients)
        updates, state = transform.update(gradients, state, parameters)
        return optax.apply_updates(parameters, updates), state, loss, norm

    declared = {"peak_lr": PEAK, "min_lr": FLOOR, "warmup_steps": WARMUP, "total_steps": steps}
    declared |= {"schedule": "optax", "decayed": ["*.w"], **OPTIMIZER}
    config = {"steps": steps, "batch_size": BATCH, "checkpoint_every": save_every}
    rec = Recorder(out, config=config, seed=seed, optimizer_settings=declared, rng="threefry2x32, PCG64")
    order = np.random.default_rng(seed)
    start = rec.resume(parameters, state, generators={"order": order})
    parameters, state = start.model, start.optimizer
    for step in range(start.step + 1, stop_after + 1):
        rows = order.integers(len(data), size=BATCH)
        key = jax.random.fold_in(jax.random.key(seed), step)
        lr = schedule(step - 1)
        parameters, state, loss, norm = update(parameters, state, data[rows], key)
        rec.log(step=step, loss=loss, lr=lr, grad_norm=norm, rows=rows)
        if step % save_every == 0 or step == stop_after:
            rec.save(step, parameters, state)
    if stop_after == steps:
        rec.finish()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", required=True)
    for name, default in (("seed", 1), ("steps", 40), ("save-every", 10), ("stop-after", None)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    train(given.out, given.seed, given.steps, given.save_every, given.stop_after or given.steps)
