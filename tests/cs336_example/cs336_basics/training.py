"""A training loop as the handout asks for one."""

import torch

from cs336_basics.parts import (  # type: ignore[import-not-found]  # found beside this folder
    clip_gradients,
    cosine_schedule,
    cross_entropy,
    get_batch,
)


def train(
    model,
    optimizer,
    data,
    batch_size,
    context_length,
    iters,
    max_lr,
    min_lr,
    warmup_iters,
    cosine_cycle_iters,
    max_l2_norm,
    device="cpu",
    log_every=100,
):
    model.train()
    for it in range(iters):
        lr = cosine_schedule(it, max_lr, min_lr, warmup_iters, cosine_cycle_iters)
        for group in optimizer.param_groups:
            group["lr"] = lr
        x, y = get_batch(data, batch_size, context_length, device)
        optimizer.zero_grad()
        loss = cross_entropy(model(x).flatten(0, 1), y.flatten())
        if not torch.isfinite(loss):
            raise FloatingPointError(f"iteration {it}: loss {loss.item()}")
        loss.backward()
        clip_gradients(list(model.parameters()), max_l2_norm)
        optimizer.step()
        if it % log_every == log_every - 1:
            print(it, loss.item())
