"""Train it: torch.Generator for the order, LambdaLR for the rate, AdamW. Recorder writes what a run leaves."""

import argparse
import math
from pathlib import Path

import torch
from model import GPT, IGNORED, Text, loss_sum, mean_loss
from torch import nn

from honestloop import Recorder
from honestloop.recorder import adamw_settings

HERE = Path(__file__).parent
BATCH, MICRO, EVAL_EVERY, WARMUP, PEAK, CLIP = 16, 2, 20, 10, 1e-2, 1.0


def rate(total):
    """Share of the peak at each update: a linear warm-up, then half a cosine to a tenth."""

    def share(done):
        if done < WARMUP:
            return (done + 1) / WARMUP
        return 0.1 + 0.45 * (1 + math.cos(math.pi * (done - WARMUP) / max(total - WARMUP, 1)))

    return share


def groups(model, decay=0.1):
    """Matrices decay, biases and gains do not."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    return [
        {"params": matrices, "weight_decay": decay},
        {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]


def update(model, optimizer, schedule, text, rows):
    """One update on these rows of the training text, in micro-batches that share one mean; its line of the log."""
    batches = [text.batch([text.train[row] for row in rows[i::MICRO]]) for i in range(min(MICRO, len(rows)))]
    count = sum(int((targets != IGNORED).sum()) for _, targets in batches)
    optimizer.zero_grad()
    loss = 0.0
    for tokens, targets in batches:
        share = loss_sum(model, tokens, targets) / count
        share.backward()
        loss += share.item()
    norm = nn.utils.clip_grad_norm_(model.parameters(), CLIP)
    lr = schedule.get_last_lr()[0]
    optimizer.step()
    schedule.step()
    return {"loss": loss, "lr": lr, "grad_norm": norm.item(), "tokens": count, "rows": rows}


def train(out, seed, steps, save_every, stop_after):
    text = Text(HERE / "data")
    torch.manual_seed(seed)
    model, order = GPT(text.vocab), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(groups(model), lr=PEAK)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate(steps))
    declared = {"total_steps": steps, "warmup_steps": WARMUP, "min_lr": 0.1 * PEAK, "schedule": "llm.c"}
    settings = adamw_settings(model, optimizer, clip_norm=CLIP, **declared)
    rec = Recorder(
        out, config={"batch": BATCH, "steps": steps}, seed=seed, optimizer_settings=settings, rng="mt19937"
    )
    begun = rec.resume(model, optimizer, scheduler=schedule, generators={"order": order})
    queue, epoch = begun.extra.get("queue", []), begun.extra.get("epoch", 0)
    for step in range(begun.step + 1, stop_after + 1):
        if not queue:
            queue, epoch = torch.randperm(len(text.train), generator=order).tolist(), epoch + 1
        rows, queue = queue[:BATCH], queue[BATCH:]
        line = update(model, optimizer, schedule, text, rows)
        if step % EVAL_EVERY == 0 or step == steps:
            with torch.no_grad():
                line["val_loss"] = mean_loss(model, text, text.val)
                line["val_ppl"] = math.exp(line["val_loss"])
        rec.log(step=step, epoch=epoch, **line)
        if step % save_every == 0 or step == stop_after:
            rec.save(step, extra={"queue": queue, "epoch": epoch})
    if stop_after == steps:
        with torch.no_grad():
            loss = mean_loss(model, text, text.val)
        rec.finish(val_loss=loss, val_ppl=math.exp(loss))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", required=True)
    for name, default in (("seed", 1), ("steps", 100), ("save-every", 20), ("stop-after", None)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    train(given.out, given.seed, given.steps, given.save_every, given.stop_after or given.steps)
