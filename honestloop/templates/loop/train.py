"""Train the loop on data/, and record the run: python train.py --out runs/1"""

import argparse
import json
from pathlib import Path

import numpy as np
from loop import Loop

from honestloop import Recorder

HERE = Path(__file__).parent
VOCAB, WIDTH, BATCH, EVALUATE_EVERY = 48, 64, 32, 40
OPTIMIZER = {
    "beta1": 0.9,
    "beta2": 0.95,
    "eps": 1e-8,
    "weight_decay": 0.1,
    "clip_norm": 1.0,
    "decayed": ["E", "W"],
}
SCHEDULE = {"peak": 0.01, "floor": 0.001, "warmup": 20}


def sequences(split):
    """The rows of a file, each a list of token ids."""
    lines = (HERE / "data" / f"{split}.jsonl").read_text().splitlines()
    return [json.loads(line)["ids"] for line in lines]


def batch(rows):
    """(input, target, mask) of rows of one length: each token predicts the next."""
    tokens = np.array(rows)
    return tokens[:, :-1], tokens[:, 1:], np.ones(tokens[:, 1:].shape, bool)


def order(seed, epoch, count):
    """The order of the rows in an epoch: a function of the seed and the epoch, so it has no state to save."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def loop_of(seed, steps):
    """The loop, at its first update."""
    start = np.random.default_rng(seed)
    shapes = {"E": (VOCAB, WIDTH), "W": (WIDTH, VOCAB)}
    parameters = {name: start.normal(0, 0.1, shape) for name, shape in shapes.items()} | {
        "b": np.zeros(VOCAB)
    }
    return Loop(
        parameters,
        betas=(OPTIMIZER["beta1"], OPTIMIZER["beta2"]),
        eps=OPTIMIZER["eps"],
        weight_decay=OPTIMIZER["weight_decay"],
        max_norm=OPTIMIZER["clip_norm"],
        schedule={**SCHEDULE, "total": steps},
        dropout=0.0,
        seed=seed,
    )


def train(out, seed, steps, save_every, stop_after):
    """From the newest checkpoint in `out`, or from the beginning, to the update `stop_after`."""
    rows, validation = sequences("train"), [batch(sequences("val"))]
    loop = loop_of(seed, steps)
    declared = {"peak_lr": SCHEDULE["peak"], "min_lr": SCHEDULE["floor"], "warmup_steps": SCHEDULE["warmup"]}
    declared |= {"total_steps": steps, "schedule": "nanogpt", **OPTIMIZER}
    config = {"batch_size": BATCH, "steps": steps, "checkpoint_every": save_every}
    rec = Recorder(out, config=config, seed=seed, optimizer_settings=declared, rng="NumPy PCG64")
    start = rec.resume(loop.parameters, loop.state())
    loop.restore(start.model, start.optimizer)
    for step in range(start.step + 1, stop_after + 1):
        epoch, place = divmod((step - 1) * BATCH, len(rows))
        chosen = order(seed, epoch, len(rows))[place : place + BATCH].tolist()
        record = loop.update([batch([rows[i] for i in chosen])])
        if step % EVALUATE_EVERY == 0 or step == steps:
            record["val_loss"] = loop.evaluate(validation)
        rec.log(step=step, epoch=epoch, rows=chosen, **record)
        if step % save_every == 0 or step == stop_after:
            rec.save(step, loop.parameters, loop.state())
    if stop_after == steps:
        rec.finish(val_loss=loop.evaluate(validation))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", required=True)
    for name, default in (("seed", 1), ("steps", 400), ("save-every", 40), ("stop-after", None)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    train(given.out, given.seed, given.steps, given.save_every, given.stop_after or given.steps)
