"""Gradients: of anything by a complex step, and of MiniGPT by the chain rule.

Complex step: for f real on the reals and analytic, f'(x) = Im f(x + ih) / h + O(h^2). Nothing is subtracted, so h
can be 1e-100 and the result is exact to rounding (Squire, Trapp, SIAM Review 40, 1998). It certifies the chain rule
below (tests/test_reference_gradients.py), which is what the bounds and the properties run.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Int

from reference.activation import gelu, gelu_backward
from reference.attention import attention, attention_backward
from reference.loss import cross_entropy, masked_mean, token_nll
from reference.model import (
    Config,
    Dropout,
    Parameters,
    attention_branch,
    ffn_branch,
    forward,
    merge_heads,
    no_dropout,
    split_heads,
)
from reference.normalisation import layer_norm, layer_norm_backward
from reference.rotary import rope, rope_backward

STEP = 1e-100

Gradients = dict[str, np.ndarray]


def complex_step(
    f: Callable[[np.ndarray], np.ndarray], x: Float[np.ndarray, "..."], direction: Float[np.ndarray, "..."]
) -> Float[np.ndarray, "..."]:
    """Directional derivative of f at x, exact to rounding, of the shape of f(x); x and direction have one shape.

    f must be analytic: it may use no abs, no conjugate and no order of complex numbers.
    """
    return np.imag(f(x + 1j * STEP * direction)) / STEP


def complex_step_gradient(
    f: Callable[[np.ndarray], np.ndarray], x: Float[np.ndarray, "..."]
) -> Float[np.ndarray, "..."]:
    """Gradient of a scalar f, of the shape of x, one entry at a time."""
    gradient = np.empty(x.size)
    for entry in range(x.size):
        direction = np.zeros(x.size)
        direction[entry] = 1.0
        gradient[entry] = complex_step(f, x, direction.reshape(x.shape))
    return gradient.reshape(x.shape)


def model_loss(
    params: Parameters,
    tokens: Int[np.ndarray, "B T"],
    targets: Int[np.ndarray, "B T"],
    loss_mask: Bool[np.ndarray, "B T"],
    key_mask: Bool[np.ndarray, "B T"],
    config: Config,
    dropout: Dropout = no_dropout,
) -> Float[np.ndarray, ""]:
    """Loss of the model on a batch, in nats per predicted token; 0 when there is nothing to predict."""
    return masked_mean(token_nll(forward(params, tokens, key_mask, config, dropout), targets), loss_mask)


def linear_backward(
    x: Float[np.ndarray, "B T I"], weight: Float[np.ndarray, "I O"], dy: Float[np.ndarray, "B T O"]
) -> tuple[Float[np.ndarray, "B T I"], Float[np.ndarray, "I O"]]:
    """(dx, dW) of y = x @ W; dW sums over every position of the batch."""
    rows = x.reshape((-1, x.shape[-1])).swapaxes(0, 1)
    return dy @ weight.swapaxes(0, 1), rows @ dy.reshape((-1, dy.shape[-1]))


def attention_branch_backward(
    x: Float[np.ndarray, "B T D"],
    dy: Float[np.ndarray, "B T D"],
    params: Parameters,
    block: str,
    key_mask: Bool[np.ndarray, "B T"],
    config: Config,
) -> tuple[Float[np.ndarray, "B T D"], Gradients]:
    """(dx, gradients of the branch's parameters by name) of y = Attn(LN(x)), for an incoming gradient dy."""
    gamma, beta = params[f"{block}.ln1.gamma"], params[f"{block}.ln1.beta"]
    base, n_heads = config["rope_base"], int(config["n_heads"])
    h = layer_norm(x, gamma, beta, config["ln_eps"])
    q, k, v = (split_heads(h @ params[f"{block}.attn.{w}"], n_heads) for w in ("W_q", "W_k", "W_v"))
    q, k = rope(q, base), rope(k, base)
    attention_out = merge_heads(attention(q, k, v, key_mask))

    d_attention_out, d_o = linear_backward(attention_out, params[f"{block}.attn.W_o"], dy)
    dq, dk, dv = attention_backward(q, k, v, key_mask, split_heads(d_attention_out, n_heads))
    grads = {f"{block}.attn.W_o": d_o}
    dh = np.zeros(())
    for w, d in (("W_q", rope_backward(dq, base)), ("W_k", rope_backward(dk, base)), ("W_v", dv)):
        part, grads[f"{block}.attn.{w}"] = linear_backward(h, params[f"{block}.attn.{w}"], merge_heads(d))
        dh = dh + part
    dx, grads[f"{block}.ln1.gamma"], grads[f"{block}.ln1.beta"] = layer_norm_backward(
        x, gamma, config["ln_eps"], dh
    )
    return dx, grads


def ffn_branch_backward(
    x: Float[np.ndarray, "B T D"],
    dy: Float[np.ndarray, "B T D"],
    params: Parameters,
    block: str,
    config: Config,
) -> tuple[Float[np.ndarray, "B T D"], Gradients]:
    """(dx, gradients of the branch's parameters by name) of y = FFN(LN(x)), for an incoming gradient dy."""
    gamma, beta = params[f"{block}.ln2.gamma"], params[f"{block}.ln2.beta"]
    w1, w2 = params[f"{block}.ffn.W_1"], params[f"{block}.ffn.W_2"]
    h = layer_norm(x, gamma, beta, config["ln_eps"])
    pre = h @ w1 + params[f"{block}.ffn.b_1"]

    dinner, d_2 = linear_backward(gelu(pre), w2, dy)
    dpre = gelu_backward(pre, dinner)
    dh, d_1 = linear_backward(h, w1, dpre)
    dx, dgamma, dbeta = layer_norm_backward(x, gamma, config["ln_eps"], dh)
    return dx, {
        f"{block}.ffn.W_1": d_1,
        f"{block}.ffn.b_1": dpre.reshape((-1, w1.shape[1])).sum(axis=0),
        f"{block}.ffn.W_2": d_2,
        f"{block}.ffn.b_2": dy.reshape((-1, w2.shape[1])).sum(axis=0),
        f"{block}.ln2.gamma": dgamma,
        f"{block}.ln2.beta": dbeta,
    }


def nll_and_gradients(
    params: Parameters,
    tokens: Int[np.ndarray, "B T"],
    targets: Int[np.ndarray, "B T"],
    loss_mask: Bool[np.ndarray, "B T"],
    key_mask: Bool[np.ndarray, "B T"],
    config: Config,
    dropout: Dropout = no_dropout,
) -> tuple[Float[np.ndarray, "B T"], Gradients]:
    """-log p of every position in nats, and the gradient of the mean loss to every parameter, by name, in their order.

    Each gradient has the shape of its parameter; all are 0 when there is nothing to predict.
    """
    n_layers = int(config["n_layers"])
    x = dropout(params["E"][tokens], 0)
    branch_inputs: list[tuple[np.ndarray, np.ndarray]] = []  # of attention and FFN, for each block
    for layer in range(n_layers):
        block = f"block_{layer}"
        middle = x + dropout(attention_branch(x, params, block, key_mask, config), 1 + 2 * layer)
        branch_inputs.append((x, middle))
        x = middle + dropout(ffn_branch(middle, params, block, config), 2 + 2 * layer)
    gamma, beta = params["ln_final.gamma"], params["ln_final.beta"]
    final = layer_norm(x, gamma, beta, config["ln_eps"])
    logits = final @ params["E"].swapaxes(0, 1)
    _, dlogits = cross_entropy(logits, targets, loss_mask)

    grads: Gradients = {}
    dfinal, d_head = linear_backward(final, params["E"].swapaxes(0, 1), dlogits)
    dx, grads["ln_final.gamma"], grads["ln_final.beta"] = layer_norm_backward(
        x, gamma, config["ln_eps"], dfinal
    )
    for layer in reversed(range(n_layers)):
        block = f"block_{layer}"
        start, middle = branch_inputs[layer]
        d, part = ffn_branch_backward(middle, dropout(dx, 2 + 2 * layer), params, block, config)
        dx, grads = dx + d, grads | part
        d, part = attention_branch_backward(
            start, dropout(dx, 1 + 2 * layer), params, block, key_mask, config
        )
        dx, grads = dx + d, grads | part
    # E is used twice: as the table of embeddings and as the head.
    one_hot = np.eye(int(config["vocab_size"]))[tokens].reshape((tokens.size, -1))
    d_table = one_hot.swapaxes(0, 1) @ dropout(dx, 0).reshape((tokens.size, -1))
    grads["E"] = d_table + d_head.swapaxes(0, 1)
    return token_nll(logits, targets), {name: grads[name] for name in params}


def loss_and_gradients(
    params: Parameters,
    tokens: Int[np.ndarray, "B T"],
    targets: Int[np.ndarray, "B T"],
    loss_mask: Bool[np.ndarray, "B T"],
    key_mask: Bool[np.ndarray, "B T"],
    config: Config,
    dropout: Dropout = no_dropout,
) -> tuple[Float[np.ndarray, ""], Gradients]:
    """Loss of the model on a batch, in nats per predicted token, and its gradient to every parameter, by name."""
    nll, grads = nll_and_gradients(params, tokens, targets, loss_mask, key_mask, config, dropout)
    return masked_mean(nll, loss_mask), grads
