"""A training loop in NumPy that leaves a record; from one update to another it may make one of the mistakes below."""

import argparse
import hashlib
import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

PEAK, FLOOR, WARMUP = 3e-3, 3e-4, 4
B1, B2, EPS, DECAY, CLIP = 0.9, 0.99, 1e-8, 0.1, 0.5
ROWS, BATCH, EVAL_EVERY = 64, 16, 5
OPTIMIZER: dict[str, Any] = {
    "peak_lr": PEAK,
    "min_lr": FLOOR,
    "warmup_steps": WARMUP,
    "beta1": B1,
    "beta2": B2,
    "eps": EPS,
}
OPTIMIZER |= {"weight_decay": DECAY, "clip_norm": CLIP, "decayed": ["*.weight"]}


def rate(step, steps):
    """Of update `step`, from 1: linear warm-up, then a half cosine."""
    if step <= WARMUP:
        return PEAK * step / WARMUP
    return FLOOR + (PEAK - FLOOR) * 0.5 * (1 + math.cos(math.pi * (step - WARMUP) / (steps - WARMUP)))


def loss_and_gradients(p, x, y):
    """Of a network with one hidden layer."""
    h = np.tanh(x @ p["a.weight"] + p["a.bias"])
    z = h @ p["b.weight"] + p["b.bias"]
    e = np.exp(z - z.max(axis=1, keepdims=True))
    q = e / e.sum(axis=1, keepdims=True)
    loss = float(-np.log(q[np.arange(len(y)), y]).mean())
    dz = (q - np.eye(z.shape[1], dtype=z.dtype)[y]) / np.float32(len(y))
    dh = (dz @ p["b.weight"].T) * (1 - h * h)
    grads = {"b.weight": h.T @ dz, "b.bias": dz.sum(0), "a.weight": x.T @ dh, "a.bias": dh.sum(0)}
    return loss, {n: g.astype(np.float32) for n, g in grads.items()}


class Run:
    """A run in its directory, and the mistake that it makes from one update to another."""

    def __init__(self, args):
        self.args, self.out = args, Path(args.out)
        rng = np.random.default_rng(args.seed)
        self.x = rng.normal(size=(ROWS + 32, 6)).astype(np.float32)
        self.y = rng.integers(0, 5, ROWS + 32)
        shapes = {"a.weight": (6, 12), "a.bias": (12,), "b.weight": (12, 5), "b.bias": (5,)}
        self.p: Any = {n: rng.normal(0, 0.4, s).astype(np.float32) for n, s in shapes.items()}
        self.m, self.v = ({n: np.zeros_like(x) for n, x in self.p.items()} for _ in range(2))
        self.step, self.t, self.total, self.best, self.mean = 0, 0, 0, None, 0.0

    def does(self, mistake):
        """Whether the mistake is being made."""
        args = self.args
        return args.mistake.replace("-", " ") == mistake and args.since <= self.step <= args.until

    def update(self):
        """Make one update; the line of the log."""
        self.step += 1
        epoch, batch = divmod((self.step - 1) * BATCH, ROWS)
        order = np.random.default_rng([self.args.seed, epoch]).permutation(ROWS)[batch : batch + BATCH]
        loss, grads = loss_and_gradients(self.p, self.x[order], self.y[order])
        norm = math.sqrt(sum(float((g.astype(np.float64) ** 2).sum()) for g in grads.values()))
        lr = logged = rate(self.step, self.args.steps)
        lr = rate(self.step - 1, self.args.steps) if self.does("rate before") else lr
        logged = logged * 1.01 if self.does("rate logged") else logged
        self.mean = 0.9 * self.mean + 0.1 * loss
        if not self.does("skips"):
            self.adamw(grads, norm, lr)
        self.total += BATCH
        line = {"step": self.step, "loss": loss, "ppl": math.exp(loss), "lr": logged, "grad_norm": norm}
        line |= {"epoch": epoch, "tokens": BATCH, "total_tokens": self.total, "seconds": 0.25}
        line |= {"tokens_per_second": BATCH / 0.25, "elapsed_seconds": self.step * 0.25}
        if self.step % EVAL_EVERY == 0 or self.step == self.args.steps:
            self.evaluate(line)
        return line | self.lies(line)

    def lies(self, line):
        """What a mistake of the log makes of its line."""
        found = {
            "loss is a mean": {"loss": self.mean, "ppl": math.exp(self.mean)},
            "ppl of base 2": {"ppl": 2.0 ** line["loss"]},
            "tokens counted twice": {"total_tokens": self.total + BATCH},
            "too fast": {"seconds": 1e-12, "tokens_per_second": BATCH / 1e-12},
            "time runs backwards": {"elapsed_seconds": 0.1},
            "loss is NaN": {"loss": math.nan},
            "a step twice": {"step": self.step - 1},
            "epoch goes back": {"epoch": 0},
        }
        if "val_loss" in line:
            found |= {
                "best is the last": {"best_val_loss": line["val_loss"], "best_step": self.step},
                "val_ppl of base 2": {"val_ppl": 2.0 ** line["val_loss"]},
            }
        return next((lie for name, lie in found.items() if self.does(name)), {})

    def adamw(self, grads, norm, lr):
        self.t += 1
        clip = 1.0 if self.does("no clipping") else min(1.0, CLIP / (norm + 1e-6))
        b2 = 0.999 if self.does("another beta2") else B2
        for n, p in self.p.items():
            g = grads[n] * np.float32(clip)
            self.m[n] = np.float32(B1) * self.m[n] + np.float32(1 - B1) * g
            self.v[n] = np.float32(b2) * self.v[n] + np.float32(1 - b2) * g * g
            root = np.sqrt(self.v[n]) / np.float32(math.sqrt(1 - B2**self.t)) + np.float32(EPS)
            wd = DECAY if n.endswith("weight") or self.does("biases decay") else 0.0
            wd = wd * 2 if self.does("decay doubled") else wd
            step = np.float32(lr / (1 - B1**self.t)) * (self.m[n] / root)
            self.p[n] = p * np.float32(1 - lr * wd) - step
        if self.does("a tensor stays"):
            self.p["b.bias"] = self.held  # taken back

    def evaluate(self, line):
        val = loss_and_gradients(self.p, self.x[ROWS:], self.y[ROWS:])[0]
        if self.best is None or val < self.best[0]:
            self.best = val, self.step
        line |= {"val_loss": val, "val_ppl": math.exp(val)}
        line |= {"best_val_loss": self.best[0], "best_step": self.best[1]}

    def save(self):
        """A checkpoint, written as a whole."""
        folder = self.out / "checkpoints" / f"step-{self.step:08d}"
        new = folder.with_suffix(".tmp")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        held = {n: x.astype(np.float16).astype(np.float32) for n, x in self.m.items()}
        m = held if self.does("m through fp16") else self.m
        moments = {f"m.{n}": x for n, x in m.items()} | {f"v.{n}": x for n, x in self.v.items()}
        save_file(self.p, new / "weights.safetensors")
        save_file(moments | {"t": np.asarray(self.t)}, new / "optimizer.safetensors")
        state = {"step": self.step, "total": self.total, "best": self.best, "mean": self.mean}
        (new / "state.json").write_text(json.dumps(state))
        files = {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in new.iterdir()}
        (new / "manifest.json").write_text(json.dumps({"files": files}))
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(new, folder)

    def resume(self):
        """Go on from the newest checkpoint; the log is cut back to it."""
        folder = max((self.out / "checkpoints").glob("step-" + "[0-9]" * 8))
        moments = load_file(folder / "optimizer.safetensors")
        self.p, self.t = load_file(folder / "weights.safetensors"), int(moments.pop("t"))
        self.m, self.v = ({n[2:]: x for n, x in moments.items() if n[0] == kind} for kind in "mv")
        state = json.loads((folder / "state.json").read_text())
        self.step, self.total, self.best, self.mean = (state[k] for k in ("step", "total", "best", "mean"))
        log = self.out / "train_log.jsonl"
        log.write_text("".join(log.read_text().splitlines(True)[: self.step]))

    def train(self):
        args = self.args
        self.out.mkdir(parents=True, exist_ok=True)
        if args.resume:
            self.resume()
        else:
            every = {"checkpoint_every": args.save_every, "eval_every": EVAL_EVERY, "steps": args.steps}
            config = {**every, "seed": args.seed, "optimizer": OPTIMIZER | {"total_steps": args.steps}}
            (self.out / "manifest.json").write_text(json.dumps({"config": config}))
        with (self.out / "train_log.jsonl").open("a" if args.resume else "w") as log:
            while self.step < min(args.steps, args.stop_after):
                self.held = self.p["b.bias"]
                log.write(json.dumps(self.update()) + "\n")
                log.flush()
                late = 1 if self.does("saves late") else 0
                if (self.step - late) % args.save_every == 0 or self.step in (args.steps, args.stop_after):
                    self.save()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--save-every", type=int, default=10)
    parser.add_argument("--stop-after", type=int, default=10**9)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--mistake", default="")
    parser.add_argument("--since", type=int, default=1)
    parser.add_argument("--until", type=int, default=10**9)
    Run(parser.parse_args()).train()
