"""The loop's parts as plain functions, NumPy in and NumPy out: what `properties/` grades.

Floating-point arguments decide the dtype (float32 or float64); nothing that is passed in is changed. A loop of
your own needs functions of these names and signatures; shapes and conventions are in honestloop/protocol.py.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from impl import evaluate, rng
from impl.config import Config, ModelConfig, OptimizerConfig
from impl.data.iterator import Batch, DataIterator
from impl.data.iterator import make_batch as _make_batch
from impl.data.tokenizer import Tokenizer, train_on_texts
from impl.kernels import activation, elementwise, gemm, loss
from impl.kernels import attention as attention_kernels
from impl.kernels import dropout as dropout_kernels
from impl.kernels import layer_norm as layer_norm_kernels
from impl.kernels.adamw import adamw
from impl.kernels.reduce import sum_squares
from impl.model import parameters
from impl.model.dropout import NO_DROPOUT, Dropout
from impl.model.minigpt import MiniGPT
from impl.model.rotary import Rotary
from impl.optim import optimizer
from impl.optim.schedule import Schedule, learning_rate
from impl.report import ngram
from impl.report.drift import round_weights
from impl.trainer import Trainer
from impl.update import update

Array = np.ndarray[Any, np.dtype[Any]]

__all__ = ["learning_rate", "round_weights"]


def matmul(a: Array, b: Array) -> Array:
    out = np.empty((a.shape[0], b.shape[1]), a.dtype)
    gemm.gemm(a, np.ascontiguousarray(b), out, False)
    return out


def cross_entropy(logits: Array, targets: Array, loss_mask: Array) -> tuple[float, Array]:
    tokens = int(np.count_nonzero(loss_mask))
    rows = _rows(logits)
    nll, dlogits = np.empty(len(rows)), np.empty_like(rows)
    weight = logits.dtype.type(1.0 / max(tokens, 1))
    loss.cross_entropy(rows, targets.reshape(-1), loss_mask.reshape(-1), weight, nll, dlogits)
    return float(elementwise.sum_onto(0.0, nll)) / max(tokens, 1), dlogits.reshape(logits.shape)


def layer_norm(x: Array, gamma: Array, beta: Array, eps: float) -> Array:
    return _normalise(x, gamma, beta, eps)[0].reshape(x.shape)


def layer_norm_backward(x: Array, gamma: Array, eps: float, dy: Array) -> tuple[Array, Array, Array]:
    _, normalised, deviation = _normalise(x, gamma, np.zeros_like(gamma), eps)
    dx, dgamma, dbeta = np.empty_like(normalised), np.zeros_like(gamma), np.zeros_like(gamma)
    layer_norm_kernels.layer_norm_backward(_rows(dy), normalised, deviation, gamma, dx)
    layer_norm_kernels.layer_norm_parameters_backward(_rows(dy), normalised, dgamma, dbeta)
    return dx.reshape(x.shape), dgamma, dbeta


def _normalise(x: Array, gamma: Array, beta: Array, eps: float) -> tuple[Array, Array, Array]:
    rows = _rows(x)
    out, normalised, deviation = np.empty_like(rows), np.empty_like(rows), np.empty(len(rows), x.dtype)
    layer_norm_kernels.layer_norm(rows, gamma, beta, x.dtype.type(eps), out, normalised, deviation)
    return out, normalised, deviation


def gelu(x: Array) -> Array:
    return _gelu(x)[0]


def gelu_backward(x: Array, dy: Array) -> Array:
    return _gelu(x)[1] * dy


def _gelu(x: Array) -> tuple[Array, Array]:
    rows = np.ascontiguousarray(x).reshape(1, -1)
    y, slope = np.empty_like(rows), np.empty_like(rows)
    activation.gelu(rows, y, slope)
    return y.reshape(x.shape), slope.reshape(x.shape)


def rope(x: Array, base: float) -> Array:
    merged = _merge_heads(x)
    _rotary(x, base).turn(merged, x.shape[2])
    return _split_heads(merged, x.shape[1], x.shape[2])


def rope_backward(dy: Array, base: float) -> Array:
    merged = _merge_heads(dy)
    _rotary(dy, base).turn_back(merged, dy.shape[2])
    return _split_heads(merged, dy.shape[1], dy.shape[2])


def _rotary(x: Array, base: float) -> Rotary:
    _, heads, length, size = x.shape
    return Rotary.tables(length, heads, size, base, x.dtype)


def attention(q: Array, k: Array, v: Array, key_mask: Array) -> Array:
    out, _ = _attend(q, k, v, key_mask)
    return _split_heads(out, q.shape[1], q.shape[2])


def attention_backward(
    q: Array, k: Array, v: Array, key_mask: Array, dout: Array
) -> tuple[Array, Array, Array]:
    _, weights = _attend(q, k, v, key_mask)
    inputs = [_merge_heads(x) for x in (dout, q, k, v)]
    gradients = [np.empty_like(inputs[0]) for _ in range(3)]
    attention_kernels.attention_backward(*inputs, _starts(q), weights, _score_scale(q), *gradients)
    dq, dk, dv = (_split_heads(gradient, q.shape[1], q.shape[2]) for gradient in gradients)
    return dq, dk, dv


def _attend(q: Array, k: Array, v: Array, key_mask: Array) -> tuple[Array, Array]:
    batch, heads, length, _ = q.shape
    merged = [_merge_heads(x) for x in (q, k, v)]
    tile, tiles = attention_kernels.TILE, attention_kernels.tiles(length)
    out, weights = np.empty_like(merged[0]), np.empty((batch, tiles, tiles * tile, heads * tile), q.dtype)
    attention_kernels.attention(*merged, _starts(q), key_mask.reshape(-1), _score_scale(q), out, weights)
    return out, weights


def _starts(q: Array) -> Array:
    """Where the sequences of q [B, H, T, K] begin if they are one behind the other."""
    return np.arange(len(q) + 1) * q.shape[2]


def _score_scale(q: Array) -> Any:
    return q.dtype.type(1.0 / np.sqrt(q.shape[-1]))


def dropout(x: Array, p: float, seed: int, step: int, site: int, context: int) -> Array:
    rows = _rows(x).copy()
    keep = np.empty(rows.shape, np.bool_)
    Dropout(p, rng.stream_key(seed, "control"), step).keep(site, x.shape[1], context, keep)
    dropout_kernels.drop(rows, keep, x.dtype.type(1.0 / (1.0 - p)))
    return rows.reshape(x.shape)


def adamw_step(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    *,
    t: int,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
) -> tuple[Array, Array, Array]:
    settings = OptimizerConfig(beta1=beta1, beta2=beta2, eps=eps, weight_decay=weight_decay)
    powers = [optimizer.power(beta, t) for beta in (beta1, beta2)]
    flat = [np.array(x).reshape(-1) for x in (p, g, m, v)]
    adamw(*flat, np.ones(p.size, np.bool_), optimizer.adamw_scalars(settings, lr, *powers))
    new_p, _, new_m, new_v = (x.reshape(p.shape) for x in flat)
    return new_p, new_m, new_v


def clip_by_global_norm(grads: Sequence[Array], max_norm: float) -> tuple[list[Array], float]:
    flat = np.concatenate([gradient.reshape(-1) for gradient in grads])
    norm_before = math.sqrt(sum_squares(flat))
    factor = optimizer.clip_factor(norm_before, max_norm)
    if factor < 1.0:
        elementwise.scale(flat, flat.dtype.type(factor))
    pieces = np.split(flat, np.cumsum([gradient.size for gradient in grads])[:-1])
    return [piece.reshape(gradient.shape) for piece, gradient in zip(pieces, grads, strict=True)], norm_before


def decays(names: Sequence[str]) -> list[bool]:
    return [optimizer.decays(name) for name in names]


def initial_parameters(seed: int, config: dict[str, Any]) -> dict[str, Array]:
    return parameters.initial_parameters(seed, ModelConfig(**config))


def forward(params: dict[str, Array], tokens: Array, key_mask: Array, config: dict[str, Any]) -> Array:
    return _model(params, config).forward(tokens, key_mask).copy()


def loss_and_gradients(
    params: dict[str, Array],
    input: Array,
    target: Array,
    loss_mask: Array,
    key_mask: Array,
    config: dict[str, Any],
) -> tuple[float, dict[str, Array]]:
    model = _model(params, config)
    batch = Batch(input, target, loss_mask, key_mask)
    nll = model.accumulate(batch, NO_DROPOUT, batch.tokens)
    model.finish_gradients()
    return nll / max(batch.tokens, 1), model.gradients


def trainer(params: dict[str, Array], settings: dict[str, Any]) -> Trainer:
    return Trainer(params, settings)


def train_step(
    params: dict[str, Array],
    config: dict[str, Any],
    *,
    dropout: float = Config().dropout,
    rate: float = OptimizerConfig().peak_lr,
    betas: tuple[float, float] = (OptimizerConfig().beta1, OptimizerConfig().beta2),
    eps: float = OptimizerConfig().eps,
    decay: float = OptimizerConfig().weight_decay,
    clip: float = OptimizerConfig().clip_norm,
) -> Callable[[Array, Array, Array, Array], float]:
    """A loop's body with its own state: step(input, target, loss_mask, key_mask) -> loss, at a constant rate."""
    model = _model(params, config)
    adam = OptimizerConfig(beta1=betas[0], beta2=betas[1], eps=eps, weight_decay=decay)
    machine = optimizer.AdamW(parameters.parameter_shapes(model.config), model.dtype, adam)
    constant, control = Schedule(peak=rate, floor=rate, warmup=0, total=0), rng.ControlRNG(Config().seed)

    def step(input: Array, target: Array, loss_mask: Array, key_mask: Array) -> float:
        dropped = Dropout(dropout, *control.next_step())
        batch = Batch(input, target, loss_mask, key_mask)
        return update(model, machine, constant, dropped, [batch], clip).loss

    return step


def _model(params: dict[str, Array], config: dict[str, Any]) -> MiniGPT:
    return MiniGPT(ModelConfig(**config), str(params["E"].dtype), params)


def make_batch(sequences: Sequence[Sequence[int]]) -> tuple[Array, Array, Array, Array]:
    batch = _make_batch(sequences)
    return batch.input, batch.target, batch.loss_mask, batch.key_mask


def epoch_order(n: int, seed: int, epoch: int) -> Array:
    return rng.permutation(seed, n, epoch)


def data_iterator(sequences: Sequence[Sequence[int]], batch_size: int, seed: int) -> DataIterator:
    return DataIterator(sequences, batch_size, seed)


def perplexity(nll_sum: float, tokens: int) -> float:
    return evaluate.Score(nll_sum, tokens).perplexity


def tokenizer(texts: Sequence[str]) -> Tokenizer:
    return train_on_texts(texts)


def ngram_baselines(
    train: Sequence[Sequence[int]], val: Sequence[Sequence[int]], vocab_size: int
) -> list[dict[str, Any]]:
    return [
        {name: result[name] for name in ("kind", "n", "parameter")}
        | {name: result["val"][name] for name in ("nll_sum", "tokens")}
        for result in ngram.baselines(train, val, vocab_size)
    ]


def _rows(x: Array) -> Array:
    """[..., D] as [N, D]."""
    return np.ascontiguousarray(x).reshape(-1, x.shape[-1])


def _merge_heads(x: Array) -> Array:
    """[B, H, T, K] to the kernels' [B * T, H * K]; always a copy, since some of them work in place."""
    batch, heads, length, size = x.shape
    return x.transpose(0, 2, 1, 3).copy().reshape(batch * length, heads * size)


def _split_heads(x: Array, heads: int, length: int) -> Array:
    batch, size = x.shape[0] // length, x.shape[1] // heads
    return np.ascontiguousarray(x.reshape(batch, length, heads, size).transpose(0, 2, 1, 3))
