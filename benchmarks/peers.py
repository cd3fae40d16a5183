"""The same training step in impl, PyTorch (eager, with fused AdamW, compiled) and JAX under jit.

The same model, parameters and batch; loss per token, clipping by the global norm, AdamW with decay of the matrices, a
constant learning rate, and no dropout, since no two libraries draw the same masks. Each function here returns
step() -> loss before the update.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from honestloop import protocol
from reference.model import DEFAULT_CONFIG
from reference.optimizer import decays

Array = np.ndarray[Any, np.dtype[Any]]
Step = Callable[[], float]
Batch = tuple[Array, Array, Array, Array]

CONFIG = dict(DEFAULT_CONFIG)
IMPL = ".".join([*__name__.split(".")[:-2], "impl"])
"""The subject, beside this package."""
RATE, BETAS, EPS, DECAY, CLIP = 1e-3, (0.9, 0.95), 1e-8, 1.0, 1.0


def ours(params: dict[str, Array], batch: Batch, config: dict[str, Any] = CONFIG) -> Step:
    """impl's training step, through the functional protocol."""
    settings = {"dropout": 0.0, "rate": RATE, "betas": BETAS, "eps": EPS, "decay": DECAY, "clip": CLIP}
    step = protocol.Subject(IMPL).raw("train_step")(params, config, **settings)
    return lambda: float(step(*batch))


def pytorch(
    params: dict[str, Array],
    batch: Batch,
    config: dict[str, Any] = CONFIG,
    *,
    fused: bool = False,
    compiled: bool = False,
) -> Step:
    """MiniGPT of fixtures/subjects/pytorch.py with torch.optim.AdamW and clip_grad_norm_."""
    import torch

    from fixtures.subjects.pytorch import mini_gpt, token_loss

    leaves = {name: torch.tensor(x, requires_grad=True) for name, x in params.items()}
    groups = [
        {"params": [x for n, x in leaves.items() if decays([n])[0] is decayed], "weight_decay": decay}
        for decayed, decay in ((True, DECAY), (False, 0.0))
    ]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=BETAS, eps=EPS, fused=fused)
    inputs, targets, loss_mask, key_mask = map(torch.tensor, batch)

    def loss_of(weights: dict[str, Any]) -> Any:
        return token_loss(mini_gpt(weights, inputs, key_mask, config), targets, loss_mask)

    forward = torch.compile(loss_of) if compiled else loss_of

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = forward(leaves)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(leaves.values(), CLIP)
        optimizer.step()
        return float(loss.detach())

    return step


def jax_jit(params: dict[str, Array], batch: Batch) -> Step:
    """The same model in jax.numpy with optax.adamw and clip_by_global_norm, the whole step under one jit."""
    import jax
    import optax

    if next(iter(params.values())).dtype == np.float64:
        jax.config.update("jax_enable_x64", True)
    from benchmarks.jax_model import loss_of

    mask = dict(zip(params, decays(list(params)), strict=True))
    adamw = optax.adamw(RATE, *BETAS, eps=EPS, weight_decay=DECAY, mask=mask)
    optimizer = optax.chain(optax.clip_by_global_norm(CLIP), adamw)
    inputs = tuple(map(jax.numpy.asarray, batch))

    @jax.jit
    def update(weights: Any, state: Any) -> Any:
        loss, gradients = jax.value_and_grad(loss_of)(weights, *inputs)
        changes, state = optimizer.update(gradients, state, weights)
        return loss, optax.apply_updates(weights, changes), state

    now = {name: jax.numpy.asarray(x) for name, x in params.items()}
    state = [now, optimizer.init(now)]

    def step() -> float:
        loss, *state[:] = update(*state)
        return float(loss)

    return step


PEERS: dict[str, Callable[..., Step]] = {
    "impl": ours,
    "PyTorch eager": pytorch,
    "PyTorch, fused AdamW": lambda params, batch: pytorch(params, batch, fused=True),
    "torch.compile": lambda params, batch: pytorch(params, batch, fused=True, compiled=True),
    "JAX jit": jax_jit,
}
