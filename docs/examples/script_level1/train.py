"""A bigram language model of letters, trained with Adam: a script as one writes it, which can be killed at any time.

python train.py --out run [--steps 40] [--save-every 10] [--seed 1] [--stop-after 40] [--resume]
"""

import argparse
import json
import os
import signal
from pathlib import Path

import numpy as np

TEXT = (
    "I speak, you speak, she speaks; I spoke, you spoke, she spoke; I will speak. Ich spreche, du sprichst. "
    * 8
)
LETTERS = sorted(set(TEXT))
IDS = np.array([LETTERS.index(letter) for letter in TEXT])


def update(weights, m, v, step, rng, lr=0.05):
    """One Adam step on a random batch of letters and the letters after them; the mean loss of the batch."""
    at = rng.integers(0, len(IDS) - 1, size=64)
    inputs, targets = IDS[at], IDS[at + 1]
    logits = weights[inputs]
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    loss = -np.log(p[np.arange(64), targets]).mean()
    p[np.arange(64), targets] -= 1
    gradient = np.zeros_like(weights)
    np.add.at(gradient, inputs, p / 64)
    m[:] = 0.9 * m + 0.1 * gradient
    v[:] = 0.99 * v + 0.01 * gradient**2
    weights -= lr * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.99**step)) + 1e-8)
    return loss


def replace(path, write):
    """Write a file as a whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    with open(partial, "wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def save(path, weights, m, v, step, rng, settings):
    state = json.dumps({"rng": rng.bit_generator.state, "settings": settings})
    replace(path, lambda file: np.savez(file, weights=weights, m=m, v=v, step=step, state=np.array(state)))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--save-every", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--stop-after", type=int)
    parser.add_argument("--resume", action="store_true")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    settings = {"steps": given.steps, "save_every": given.save_every}
    weights, step, rng = np.zeros((len(LETTERS), len(LETTERS))), 0, np.random.default_rng(given.seed)
    m, v = np.zeros_like(weights), np.zeros_like(weights)
    saved = sorted(given.out.glob("step-*.npz"), key=lambda path: path.stem)
    log = given.out / "log.txt"
    if given.resume:
        if not saved:
            raise SystemExit(f"{given.out}: there is no checkpoint to resume from; train without --resume")
        with np.load(saved[-1]) as file:
            weights, m, v, step = file["weights"], file["m"], file["v"], int(file["step"])
            state = json.loads(str(file["state"]))
        rng.bit_generator.state, settings = state["rng"], state["settings"]
        lines = log.read_text().splitlines(keepends=True)[:step]
        replace(log, lambda file: file.write("".join(lines).encode()))
    else:
        log.write_text("")
    last = min(settings["steps"], given.stop_after or settings["steps"])
    stop = []
    signal.signal(signal.SIGTERM, lambda number, frame: stop.append(number))
    while step < last and not stop:
        step += 1
        loss = update(weights, m, v, step, rng)
        with log.open("a") as file:
            file.write(f"step {step} loss {loss:.6f}\n")
        if step % settings["save_every"] == 0 or step == last or stop:
            save(given.out / f"step-{step:08d}.npz", weights, m, v, step, rng, settings)


if __name__ == "__main__":
    main()
