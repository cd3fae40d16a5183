"""A whole run of my_loop.py, which honestloop.Recorder writes down: honestloop grade subject.toml."""

import argparse
from pathlib import Path

import torch
from my_loop import Loop, Model

from honestloop import Recorder
from honestloop.recorder import adamw_settings

TEXT = torch.tensor(list(Path(__file__).with_name("my_loop.py").read_bytes()))
ROWS, LENGTH, LAST, WARMUP, PEAK, FLOOR, CLIP = 8, 24, 512, 5, 1e-2, 1e-3, 1.0


def batch(text, starts):
    """(input, target, mask) of the windows that begin at these places of a text."""
    rows = torch.stack([text[start : start + LENGTH + 1] for start in starts])
    return rows[:, :-1], rows[:, 1:], torch.ones(len(rows), LENGTH, dtype=torch.bool)


def run(out, seed, steps, save_every, stop_after):
    torch.manual_seed(seed)
    model, order = Model(256, 16), torch.Generator().manual_seed(seed)
    schedule = {"peak": PEAK, "floor": FLOOR, "warmup": WARMUP, "total": steps}
    loop = Loop(model, (0.9, 0.95), 1e-8, 0.1, CLIP, schedule, seed)
    horizon = {"total_steps": steps, "warmup_steps": WARMUP, "min_lr": FLOOR, "schedule": "nanogpt"}
    settings = adamw_settings(model, loop.optimizer, clip_norm=CLIP, **horizon)
    rec = Recorder(out, config={"steps": steps}, seed=seed, optimizer_settings=settings, rng="mt19937")
    loop.updates = rec.resume(model, loop.optimizer, generators={"order": order}).step
    held_out = [batch(TEXT[-LAST:], range(0, LAST - LENGTH, LENGTH))]
    for step in range(loop.updates + 1, stop_after + 1):
        starts = torch.randint(len(TEXT) - LAST - LENGTH, (2, ROWS), generator=order)
        record = loop.update([batch(TEXT, half) for half in starts])
        if step % save_every == 0:
            record["val_loss"] = loop.evaluate(held_out)
        rec.log(step=step, **record)
        if step % save_every == 0 or step == stop_after:
            rec.save(step)
    if stop_after == steps:
        rec.finish(val_loss=loop.evaluate(held_out))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", required=True)
    for name, default in (("seed", 1), ("steps", 40), ("save-every", 10), ("stop-after", None)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    run(given.out, given.seed, given.steps, given.save_every, given.stop_after or given.steps)
