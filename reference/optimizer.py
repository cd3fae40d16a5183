"""AdamW: Adam with decoupled weight decay.

    m = b1 m + (1 - b1) g          v = b2 v + (1 - b2) g^2          c1 = 1 - b1^t,  c2 = 1 - b2^t,  t from 1

The direction u, by the place of eps:
    after correction     u = (m / c1) / (sqrt(v / c2) + eps)        Kingma, Ba, "Adam", ICLR 2015, algorithm 1
    before correction    u = (sqrt(c2) / c1) m / (sqrt(v) + eps)    its section 2, at the end; CS336, assignment 1

The update, by the order of the decay (Loshchilov, Hutter, "Decoupled weight decay regularization", ICLR 2019,
algorithm 2, of which these are the readings in use):
    before     p = p (1 - lr wd) - lr u          PyTorch
    with       p = p - lr (u + wd p)             optax, llm.c: before in exact arithmetic, other roundings
    after      q = p - lr u,  p = q - lr wd q    CS336, assignment 1: another update, by lr^2 wd u

The last line may also be written p = q (1 - lr wd): there the factor is rounded once to the dtype of q, and the product
once, 2 roundings of the result, where the difference has one of lr wd q and one of the result. Adding 0 q, which
changes no value, allows for one more rounding of the result, so that the bound covers either form. In the same way
"with" may subtract lr u and lr wd p one after the other, which rounds once more, by u |p - lr u|: 0 p allows for it.

Which parameters decay: "matrices" alone, or "all" (picoLLM's loop).
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
    decay: str = "before",
    eps_place: str = "after correction",
) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
    """(p, m, v) after update number t, from 1, all of one shape. m and v start from 0."""
    m, v = moments(g, m, v, beta1, beta2)
    return decayed(p, direction(m, v, t, beta1, beta2, eps, eps_place), lr, weight_decay, decay), m, v


def moments(
    g: Float[np.ndarray, "..."],
    m: Float[np.ndarray, "..."],
    v: Float[np.ndarray, "..."],
    beta1: float,
    beta2: float,
) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
    """(m, v) after a gradient, all of one shape."""
    return beta1 * m + (1.0 - beta1) * g, beta2 * v + (1.0 - beta2) * (g * g)


def direction(
    m: Float[np.ndarray, "..."],
    v: Float[np.ndarray, "..."],
    t: int,
    beta1: float,
    beta2: float,
    eps: float,
    eps_place: str,
) -> Float[np.ndarray, "..."]:
    """u of update number t, from 1, all of one shape: with eps after the correction of the moments, or before it."""
    correction1, correction2 = 1.0 - beta1**t, 1.0 - beta2**t
    if eps_place == "after correction":
        return (m / correction1) / (np.sqrt(v / correction2) + eps)
    return (np.sqrt(correction2) / correction1) * m / (np.sqrt(v) + eps)


def decayed(
    p: Float[np.ndarray, "..."], direction: Float[np.ndarray, "..."], lr: float, wd: float, order: str
) -> Float[np.ndarray, "..."]:
    """p - lr * direction, decayed in one of the three orders; all of one shape."""
    if order == "before":
        return p * (1.0 - lr * wd) - lr * direction
    if order == "with":
        return p - lr * (direction + wd * p) + 0.0 * p
    moved = p - lr * direction
    return moved - (lr * wd) * moved + 0.0 * moved


def decays(names: list[str], decayed: str = "matrices") -> list[bool]:
    """Weight decay is for matrices: the embedding `E` and every `W_*`; never for a bias or a LayerNorm parameter.

    decayed = "all": for every parameter.
    """
    return [decayed == "all" or name == "E" or name.split(".")[-1].startswith("W_") for name in names]
