"""AdamW: Adam with decoupled weight decay, in the order of operations of PyTorch.

    p = p (1 - lr wd)
    m = b1 m + (1 - b1) g                    v = b2 v + (1 - b2) g^2
    p = p - lr (m / c1) / (sqrt(v / c2) + eps)      c1 = 1 - b1^t,  c2 = 1 - b2^t,  t from 1

Source: Loshchilov, Hutter, "Decoupled weight decay regularization", ICLR 2019, algorithm 2; Kingma, Ba, "Adam", ICLR
2015, algorithm 1: eps stands outside the square root and after the correction.
"""

import numpy as np
from jaxtyping import Float


def adamw_step(
    p: Float[np.ndarray, "..."],
    g: Float[np.ndarray, "..."],
    m: Float[np.ndarray, "..."],
    v: Float[np.ndarray, "..."],
    *,
    t: int,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
    """(p, m, v) after update number t (the first is 1)."""
    p = p * (1.0 - lr * weight_decay)
    m = beta1 * m + (1.0 - beta1) * g
    v = beta2 * v + (1.0 - beta2) * (g * g)
    correction1, correction2 = 1.0 - beta1**t, 1.0 - beta2**t
    return p - lr * (m / correction1) / (np.sqrt(v / correction2) + eps), m, v


def decays(names: list[str]) -> list[bool]:
    """Weight decay is for matrices: the embedding `E` and every `W_*`; never for a bias or a LayerNorm parameter."""
    return [name == "E" or name.split(".")[-1].startswith("W_") for name in names]
