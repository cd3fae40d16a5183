"""A bigram model of letters, trained with Adam: a script as one writes it, which may be killed at any time."""

import argparse
import json
import os
import signal
from functools import partial
from pathlib import Path

import numpy as np

TEXT = (
    "I speak, you speak, she speaks; I spoke, you spoke, she spoke. Ich spreche, du sprichst, sie spricht. "
    * 8
)
LETTERS = sorted(set(TEXT))
IDS = np.array([LETTERS.index(letter) for letter in TEXT])


def update(weights, m, v, step, rng, batch=64, lr=0.05):
    """One Adam step on random letters and those that follow them; the mean loss."""
    at = rng.integers(0, len(IDS) - 1, size=batch)
    inputs, targets = IDS[at], IDS[at + 1]
    p = np.exp(weights[inputs] - weights[inputs].max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    loss = -np.log(p[np.arange(batch), targets]).mean()
    p[np.arange(batch), targets] -= 1
    gradient = np.zeros_like(weights)
    np.add.at(gradient, inputs, p / batch)
    m += 0.1 * (gradient - m)
    v += 0.01 * (gradient**2 - v)
    weights -= lr * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.99**step)) + 1e-8)
    return loss


def replace(path, write):
    """Write a file as a whole or not at all."""
    unfinished = path.with_name(path.name + ".partial")
    with open(unfinished, "wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, path)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    for name, default in (("--steps", 40), ("--save-every", 10), ("--seed", 1), ("--stop-after", None)):
        parser.add_argument(name, type=int, default=default)
    parser.add_argument("--resume", action="store_true")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    settings, rng, step = [given.steps, given.save_every], np.random.default_rng(given.seed), 0
    weights, m, v = np.zeros((3, len(LETTERS), len(LETTERS)))
    log, saved = given.out / "log.txt", sorted(given.out.glob("step-*.npz"))
    if given.resume:
        if not saved:
            raise SystemExit(f"{given.out}: there is no checkpoint; train without --resume")
        with np.load(saved[-1]) as file:
            weights, m, v, (step, *settings) = file["weights"], file["m"], file["v"], file["counts"].tolist()
            rng.bit_generator.state = json.loads(str(file["rng"]))
        lines = log.read_text().splitlines(keepends=True)[:step]
        replace(log, lambda file: file.write("".join(lines).encode()))
    else:
        log.write_text("")
    last, stop = min(settings[0], given.stop_after or settings[0]), []
    signal.signal(signal.SIGTERM, lambda number, frame: stop.append(number))
    while step < last and not stop:
        step += 1
        loss = update(weights, m, v, step, rng)
        with log.open("a") as file:
            file.write(f"step {step} loss {loss:.6f}\n")
        if step % settings[1] == 0 or step == last or stop:
            state = {"weights": weights, "m": m, "v": v, "counts": [step, *settings]}
            state["rng"] = json.dumps(rng.bit_generator.state)
            replace(given.out / f"step-{step:08d}.npz", partial(np.savez, **state))


if __name__ == "__main__":
    main()
