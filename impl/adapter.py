"""The parts of the loop as plain functions, NumPy in and NumPy out: what `properties/` grades.

Floating-point arguments decide the dtype (float32 or float64), and no argument is changed. Functions of these names and
signatures are what a loop offers to be graded; honestloop/protocol.py has the list, and the conventions.

Shapes: batch B, length T, vocabulary V, width D, heads H, head size K. Losses are in nats.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from impl import evaluate, rng
from impl.array_layout import any_layout, plain
from impl.bits_per_byte import bits_per_byte, token_bytes
from impl.config import Config, ModelConfig, OptimizerConfig
from impl.data.iterator import Batch, DataIterator
from impl.data.iterator import make_batch as _make_batch
from impl.data.tokenizer import Tokenizer, train_on_texts
from impl.data.windows import Counters, Windows
from impl.kernels import activation, elementwise, gemm, half_precision, objective
from impl.kernels import attention as attention_kernels
from impl.kernels import layer_norm as layer_norm_kernels
from impl.kernels.adamw import adamw, running_power
from impl.kernels.reduce import sum_squares
from impl.model import bigram, decode, parameters
from impl.model.dropout import NO_DROPOUT, Dropout
from impl.model.minigpt import MiniGPT
from impl.model.rotary import Rotary
from impl.model.sampling import sample_token, token_probabilities
from impl.optim import average, optimizer
from impl.optim.schedule import learning_rate, rate_by_progress
from impl.optim.stochastic_rounding import StochasticRounding
from impl.own_scaler import Scaler
from impl.own_trainer import OwnTrainer
from impl.report import ngram
from impl.report.choices import centered_accuracy, choose_option, few_shot
from impl.report.drift import round_float8, round_weights
from impl.report.flops import flops_per_token, mfu
from impl.report.profile import step_profile
from impl.report.speed import cost, tokens_per_second
from impl.run import checkpoint, tensors
from impl.run.files import atomic_write
from impl.steering.best import BestTracker
from impl.steering.budget import Budget
from impl.steering.cadence import schedule_of_events
from impl.steering.outliers import OutlierDetector
from impl.steering.scaling import scaled_settings
from impl.trainer import BigramTrainer, Trainer

Array = np.ndarray[Any, np.dtype[Any]]

__all__ = [
    "bits_per_byte",
    "centered_accuracy",
    "choose_option",
    "cost",
    "few_shot",
    "flops_per_token",
    "learning_rate",
    "mfu",
    "rate_by_progress",
    "round_float8",
    "round_weights",
    "sample_token",
    "scaled_settings",
    "schedule_of_events",
    "step_profile",
    "token_bytes",
    "token_probabilities",
    "tokens_per_second",
]

outlier_detector = OutlierDetector
tracker, weight_average, loss_average = BestTracker, average.WeightAverage, average.LossAverage


def time_budget(seconds: float, excluded: int) -> Budget:
    """The time of a run of `seconds`, its first `excluded` updates left out; they take none after a resume either."""
    return Budget(seconds=seconds, tokens=0, excluded_updates=excluded)


# ---- layers


@any_layout
def matmul(a: Array, b: Array) -> Array:
    """The matrix product [M, N] of a [M, K] and b [K, N]."""
    out = np.empty((a.shape[0], b.shape[1]), a.dtype)
    gemm.gemm(a, np.ascontiguousarray(b), out, False)
    return out


@any_layout
def cross_entropy(logits: Array, targets: Array, loss_mask: Array) -> tuple[float, Array]:
    """Mean of -log softmax(logits)[target] over the tokens in the loss mask, and its gradient to the logits.

    logits [B, T, V]; targets int [B, T]; loss_mask bool [B, T]. The loss is 0 if no token is in the mask.
    """
    tokens = max(int(np.count_nonzero(loss_mask)), 1)
    nll, dlogits = bigram.cross_entropy(_rows(logits), targets, loss_mask, 1.0 / tokens)
    return float(elementwise.sum_in_order(0.0, nll)) / tokens, dlogits.reshape(logits.shape)


@any_layout
def training_loss(
    logits: Array,
    targets: Array,
    loss_mask: Array,
    *,
    label_smoothing: float,
    z_loss: float,
    softcap: float,
) -> tuple[float, float, Array]:
    """(what is minimised, the cross-entropy, the gradient [B, T, V] of the former to the raw logits), nats per token.

    logits [B, T, V] are capped at `softcap` unless that is 0; targets int [B, T]; loss_mask bool [B, T].
    """
    tokens, rows = max(int(np.count_nonzero(loss_mask)), 1), _rows(logits).copy()
    if softcap > 0.0:
        objective.soft_cap(rows, softcap, 1.0, rows)
    nll, dlogits = bigram.cross_entropy(rows, targets, loss_mask, 1.0 / tokens)
    penalties, scale = np.empty(len(rows)), rows.dtype.type(1.0 / tokens)
    ids, mask = targets.reshape(-1), loss_mask.reshape(-1)
    objective.add_penalties(rows, ids, mask, scale, label_smoothing, z_loss, penalties, dlogits)
    if softcap > 0.0:
        objective.soft_cap_backward(rows, softcap, 1.0, dlogits)
    loss, more = (float(elementwise.sum_in_order(0.0, x)) / tokens for x in (nll, penalties))
    return loss + more, loss, dlogits.reshape(logits.shape)


@any_layout
def softcap(x: Array, cap: float, scale: float) -> Array:
    """cap tanh(scale x / cap), x of any shape."""
    rows = np.ascontiguousarray(x).reshape(1, -1)
    out = np.empty_like(rows)
    objective.soft_cap(rows, float(cap), float(scale), out)
    return out.reshape(x.shape)


@any_layout
def softcap_backward(x: Array, cap: float, scale: float, dy: Array) -> Array:
    """dy scale (1 - tanh(scale x / cap)^2), the gradient of `softcap`; x and dy of one shape."""
    capped, dx = softcap(x, cap, scale).reshape(1, -1), np.array(dy, order="C").reshape(1, -1)
    objective.soft_cap_backward(capped, float(cap), float(scale), dx)
    return dx.reshape(x.shape)


def accumulated_loss(losses: Sequence[Array], masks: Sequence[Array]) -> tuple[float, list[Array]]:
    """The loss of an update of micro-batches [B, T], and the weight of each token in it: the same, 1 / tokens."""
    tokens, total = max(sum(int(np.count_nonzero(mask)) for mask in masks), 1), 0.0
    for loss, mask in zip(losses, masks, strict=True):
        total = float(
            elementwise.sum_in_order(total, np.where(mask, loss, 0.0).astype(np.float64).reshape(-1))
        )
    share = losses[0].dtype.type(1.0 / tokens)
    return total / tokens, [mask * share for mask in masks]


@any_layout
def ignoring_cross_entropy(logits: Array, targets: Array, ignore_index: int) -> tuple[float, Array]:
    """`cross_entropy` where targets [B, T] are not ignore_index."""
    predicted = targets != ignore_index
    return cross_entropy(logits, np.where(predicted, targets, 0), predicted)


@any_layout
def layer_norm(x: Array, gamma: Array, beta: Array, eps: float) -> Array:
    """gamma * (x - mean) / sqrt(var + eps) + beta over the last axis (Ba, Kiros & Hinton 2016).

    x [..., D]; gamma, beta [D]. The variance is the biased one.
    """
    return _layer_norm(x, gamma, beta, eps)[0].reshape(x.shape)


@any_layout
def layer_norm_backward(x: Array, gamma: Array, eps: float, dy: Array) -> tuple[Array, Array, Array]:
    """Gradients (dx [..., D], dgamma [D], dbeta [D]) of `layer_norm`, dy [..., D] the gradient of its output."""
    _, x_hat, inverse_std = _layer_norm(x, gamma, np.zeros_like(gamma), eps)
    dx, dgamma, dbeta = np.empty_like(x_hat), np.zeros_like(gamma), np.zeros_like(gamma)
    layer_norm_kernels.layer_norm_backward(_rows(dy), x_hat, inverse_std, gamma, dx)
    layer_norm_kernels.layer_norm_parameters_backward(_rows(dy), x_hat, dgamma, dbeta)
    return dx.reshape(x.shape), dgamma, dbeta


def _layer_norm(x: Array, gamma: Array, beta: Array, eps: float) -> tuple[Array, Array, Array]:
    rows = _rows(x)
    out, x_hat, inverse_std = np.empty_like(rows), np.empty_like(rows), np.empty(len(rows), x.dtype)
    layer_norm_kernels.layer_norm(rows, gamma, beta, x.dtype.type(eps), out, x_hat, inverse_std)
    return out, x_hat, inverse_std


@any_layout
def gelu(x: Array) -> Array:
    """x * Phi(x), Phi the standard normal distribution function (Hendrycks & Gimpel 2016); x of any shape."""
    return _gelu(x)[0]


@any_layout
def gelu_backward(x: Array, dy: Array) -> Array:
    """dy * (Phi(x) + x phi(x)), the gradient of `gelu`; x and dy of one shape."""
    return _gelu(x)[1] * dy


def _gelu(x: Array) -> tuple[Array, Array]:
    rows = np.ascontiguousarray(x).reshape(1, -1)
    out, grad = np.empty_like(rows), np.empty_like(rows)
    activation.gelu(rows, out, grad)
    return out.reshape(x.shape), grad.reshape(x.shape)


@any_layout
def rope(x: Array, base: float) -> Array:
    """Rotary position embedding (Su et al. 2021) of x [B, H, T, K], K even; positions 0 to T - 1.

    The pair of features (i, i + K/2) is rotated by position * base^(-2i/K).
    """
    merged = _merge_heads(x)
    _rotary(x, base).rotate(merged, x.shape[2])
    return _split_heads(merged, x.shape[1], x.shape[2])


@any_layout
def rope_backward(dy: Array, base: float) -> Array:
    """The gradient of `rope`, dy [B, H, T, K]: the inverse rotation."""
    merged = _merge_heads(dy)
    _rotary(dy, base).rotate_back(merged, dy.shape[2])
    return _split_heads(merged, dy.shape[1], dy.shape[2])


def _rotary(x: Array, base: float) -> Rotary:
    _, heads, length, size = x.shape
    return Rotary.tables(length, heads, size, base, x.dtype)


@any_layout
def attention(q: Array, k: Array, v: Array, key_mask: Array) -> Array:
    """Causal attention softmax(q k^T / sqrt(K)) v (Vaswani et al. 2017); q, k, v and the result [B, H, T, K].

    Only keys where key_mask, bool [B, T], is true are attended to; a query without any gets zeros.
    """
    out, _ = _attention(q, k, v, key_mask)
    return _split_heads(out, q.shape[1], q.shape[2])


@any_layout
def attention_backward(
    q: Array, k: Array, v: Array, key_mask: Array, dout: Array
) -> tuple[Array, Array, Array]:
    """Gradients (dq, dk, dv) of `attention`, dout the gradient of its output; all [B, H, T, K]."""
    return _attention_gradients(q, k, v, _attention(q, k, v, key_mask)[1], dout)


def _attention_gradients(
    q: Array, k: Array, v: Array, weights: Array, dout: Array
) -> tuple[Array, Array, Array]:
    inputs = [_merge_heads(x) for x in (dout, q, k, v)]
    gradients = [np.empty_like(inputs[0]) for _ in range(3)]
    attention_kernels.attention_backward(*inputs, _starts(q), weights, _score_scale(q), *gradients)
    dq, dk, dv = (_split_heads(gradient, q.shape[1], q.shape[2]) for gradient in gradients)
    return dq, dk, dv


@any_layout
def window_attention(q: Array, k: Array, v: Array, key_mask: Array, window: int) -> Array:
    """`attention` of each query over the last `window` keys, its own among them."""
    out, _ = _attention(q, k, v, key_mask, window)
    return _split_heads(out, q.shape[1], q.shape[2])


@any_layout
def window_attention_backward(
    q: Array, k: Array, v: Array, key_mask: Array, window: int, dout: Array
) -> tuple[Array, Array, Array]:
    """Gradients (dq, dk, dv) of `window_attention`, dout the gradient of its output; all [B, H, T, K]."""
    return _attention_gradients(q, k, v, _attention(q, k, v, key_mask, window)[1], dout)


def _attention(q: Array, k: Array, v: Array, key_mask: Array, window: int = 0) -> tuple[Array, Array]:
    batch, heads, length, _ = q.shape
    merged = [_merge_heads(x) for x in (q, k, v)]
    size, blocks = attention_kernels.QUERY_BLOCK, attention_kernels.query_blocks(length)
    out, weights = np.empty_like(merged[0]), np.empty((batch, blocks, blocks * size, heads * size), q.dtype)
    mask, scale = key_mask.reshape(-1), _score_scale(q)
    attention_kernels.attention(*merged, _starts(q), mask, scale, window, out, weights)
    return out, weights


def _starts(q: Array) -> Array:
    """The first row of each sequence of q [B, H, T, K], and the number of rows, [B + 1]."""
    return np.arange(len(q) + 1) * q.shape[2]


def _score_scale(q: Array) -> Any:
    return q.dtype.type(1.0 / np.sqrt(q.shape[-1]))


@any_layout
def dropout(x: Array, p: float, seed: int, step: int, site: int, context: int) -> Array:
    """Inverted dropout (Srivastava et al. 2014) of x [B, T, D]: 0 with probability p, else x / (1 - p).

    The mask is a function of the seed, the update `step` (from 0), the `site` in the model and the element's number,
    ((sequence * context) + position) * D + feature.
    """
    rows = _rows(x).copy()
    Dropout(p, rng.stream_key(seed, "control"), step).apply(rows, site, x.shape[1], context)
    return rows.reshape(x.shape)


# ---- optimizer


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
    """(p, m, v) after update t, from 1, of AdamW (Loshchilov & Hutter 2019, algorithm 2); arrays of one shape.

    p (1 - lr weight_decay) - lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps), with the new moments m and v.
    """
    settings = OptimizerConfig(beta1=beta1, beta2=beta2, eps=eps, weight_decay=weight_decay)
    powers = [running_power(float(beta), int(t)) for beta in (beta1, beta2)]
    flat = [np.array(x).reshape(-1) for x in (p, g, m, v)]
    adamw(*flat, np.ones(p.size, np.bool_), optimizer.adamw_scalars(settings, lr, *powers))
    new_p, _, new_m, new_v = (x.reshape(p.shape) for x in flat)
    return new_p, new_m, new_v


def clip_by_global_norm(grads: Iterable[Array], max_norm: float) -> tuple[list[Array], float]:
    """The gradients scaled so that their 2-norm altogether is at most max_norm, and the norm before scaling.

    Pascanu et al. 2013; the norm is a float64, 0 without gradients.
    """
    grads = list(grads)
    if not grads:
        return [], 0.0
    flat = np.concatenate([gradient.reshape(-1) for gradient in grads])
    norm_before = math.sqrt(sum_squares(flat))
    factor = optimizer.clip_factor(norm_before, max_norm)
    if factor < 1.0:
        elementwise.scale(flat, flat.dtype.type(factor))
    parts = np.split(flat, np.cumsum([gradient.size for gradient in grads])[:-1])
    return [part.reshape(gradient.shape) for part, gradient in zip(parts, grads, strict=True)], norm_before


def decays(names: Sequence[str]) -> list[bool]:
    """Whether weight decay applies to each of MiniGPT's parameters: to matrices, not to biases and LayerNorm."""
    return [optimizer.decays(name) for name in names]


# ---- the model, and training


def initial_parameters(seed: int, config: dict[str, Any]) -> dict[str, Array]:
    """MiniGPT's initial parameters by name, float64: matrices from N(0, 0.02^2), biases and beta 0, gamma 1.

    `config` has fields of ModelConfig.
    """
    return parameters.initial_parameters(seed, ModelConfig(**config))


@any_layout
def forward(params: dict[str, Array], tokens: Array, key_mask: Array, config: dict[str, Any]) -> Array:
    """MiniGPT's logits [B, T, V] for tokens int [B, T], without dropout; key_mask bool [B, T].

    ValueError if a token is out of vocabulary, or T above the model's context.
    """
    return _model(params, config).forward(tokens, key_mask).copy()


@any_layout
def generate(
    params: dict[str, Array], prompt: Sequence[int], count: int, config: dict[str, Any]
) -> tuple[Array, Array]:
    """(ids int64 [count], logits [count, V]) of greedy decoding, with the keys and values of earlier tokens kept.

    ValueError if prompt and all but the last id are more than the model's context.
    """
    return decode.generate(_model(params, config), list(prompt), count)


@any_layout
def loss_and_gradients(
    params: dict[str, Array],
    input: Array,
    target: Array,
    loss_mask: Array,
    key_mask: Array,
    config: dict[str, Any],
) -> tuple[float, dict[str, Array]]:
    """MiniGPT's mean loss over the tokens in the loss mask, and its gradient by parameter name; without dropout.

    input, target int and loss_mask, key_mask bool, all [B, T]. ValueError as in `forward`.
    """
    model = _model(params, config)
    batch = Batch(input, target, loss_mask, key_mask)
    nll = model.accumulate(batch, NO_DROPOUT, batch.tokens)
    model.finish_gradients()
    return nll / max(batch.tokens, 1), model.gradients


@any_layout
def recomputed_gradients(
    params: dict[str, Array],
    input: Array,
    target: Array,
    loss_mask: Array,
    key_mask: Array,
    config: dict[str, Any],
    recompute: bool,
    p: float,
    seed: int,
    step: int,
) -> tuple[float, dict[str, Array], list[int]]:
    """As `loss_and_gradients`, with dropout of rate p, and how often each block was computed; arrays [B, T].

    `recompute`: each block is computed again in the backward pass, and only its input is kept.
    """
    model = _model(params, config, recompute=recompute)
    batch, drop = Batch(input, target, loss_mask, key_mask), Dropout(p, rng.stream_key(seed, "control"), step)
    nll = model.accumulate(batch, drop, batch.tokens)
    model.finish_gradients()
    return nll / max(batch.tokens, 1), model.gradients, model.block_passes()


@any_layout
def autocast_matmul(a: Array, b: Array, form: str) -> Array:
    """The product [M, N] of a [M, K] and b [K, N] with operands and result rounded to a 16-bit form."""
    return _rounded(matmul(_rounded(a, form), _rounded(b, form)), form)


@any_layout
def autocast_matmul_backward(a: Array, b: Array, form: str, dout: Array) -> tuple[Array, Array]:
    """Gradients (da [M, K], db [K, N]) of `autocast_matmul`, dout [M, N] the gradient of its result."""
    dy, a_t, b_t = _rounded(dout, form), _rounded(a, form).T, _rounded(b, form).T
    return _rounded(matmul(dy, b_t), form), _rounded(matmul(a_t, dy), form)


def _rounded(x: Array, form: str) -> Array:
    flat = plain(x).reshape(-1).copy()
    half_precision.round_flat(flat, half_precision.FORMS[form])
    return flat.reshape(x.shape)


def round_stochastically(x: Array, seed: int, step: int) -> Array:
    """x of any shape as numbers of bfloat16, up or down at random, in the dtype of x."""
    flat, noise = plain(x).reshape(-1).copy(), StochasticRounding(seed)
    noise.step = step
    noise.round(flat)
    return flat.reshape(x.shape)


def scaler(params: Sequence[Array], settings: dict[str, Any]) -> Scaler:
    """The loop's loss scale, around AdamW of arrays of any shape."""
    return Scaler(params, settings)


def trainer(params: dict[str, Array], settings: dict[str, Any]) -> BigramTrainer:
    """A training loop of a small model, logits = dropout(E[input]) W + b: E [V, D], W [D, V], b [V]."""
    return BigramTrainer(params, settings)


def own_trainer(settings: dict[str, Any]) -> OwnTrainer:
    """The loop's updates of a small MiniGPT. `settings` has seed, dtype and dropout."""
    return OwnTrainer(settings)


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
    """MiniGPT's training step at a constant rate: step(input, target, loss_mask, key_mask) -> loss before the update.

    The function keeps the state of the training; its arguments are [B, T].
    """
    constant_rate = {"peak": rate, "floor": rate, "warmup": 0, "total": 0}
    adam = {"beta1": betas[0], "beta2": betas[1], "eps": eps, "weight_decay": decay}
    loop = {"seed": Config().seed, "dropout": dropout, "max_norm": clip}
    stateful = Trainer(_model(params, config), constant_rate | adam | loop)
    return lambda *arrays: stateful.update([Batch(*arrays)]).loss


def _model(params: dict[str, Array], config: dict[str, Any], *, recompute: bool = False) -> MiniGPT:
    return MiniGPT(ModelConfig(**config), str(params["E"].dtype), params, recompute=recompute)


# ---- data and evaluation


def make_batch(sequences: Sequence[Sequence[int]]) -> tuple[Array, Array, Array, Array]:
    """(input, target, loss_mask, key_mask), all [B, T]: sequences shifted by one and padded with 0 on the right."""
    batch = _make_batch(sequences)
    return batch.input, batch.target, batch.loss_mask, batch.key_mask


def epoch_order(n: int, seed: int, epoch: int) -> Array:
    """The order of n sequences in an epoch, int64 [n]: a permutation of 0 to n - 1."""
    return rng.permutation(seed, n, epoch)


def data_iterator(sequences: Sequence[Sequence[int]], batch_size: int, seed: int) -> DataIterator:
    """An iterator whose state can be saved; each epoch visits every sequence once."""
    return DataIterator(sequences, batch_size, seed)


def progress_counters(epochs: Sequence[Sequence[int]], accumulate: int) -> list[tuple[int, int, float]]:
    """(step, tokens, epoch) after each update of micro-batches with these numbers of predicted tokens."""
    source = _Lengths(epochs)
    counters = Counters(sum(epochs[0]))
    windows, records = Windows(source, accumulate, "update", counters), []
    while source.left:
        counters.update(sum(batch.tokens for batch in windows.next()))
        records.append((counters.steps, counters.tokens, float(counters.epochs)))
    return records


class _Lengths:
    """Batches of one row with these numbers of predicted tokens, an epoch after the other."""

    def __init__(self, epochs: Sequence[Sequence[int]]) -> None:
        self.left = [
            (number, place, n) for number, epoch in enumerate(epochs) for place, n in enumerate(epoch, 1)
        ]
        self.batches_an_epoch = len(epochs[0])
        self.epoch, self.epoch_is_done = 0, False

    def next_batch(self) -> Any:
        self.epoch, place, tokens = self.left.pop(0)
        self.epoch_is_done = place == self.batches_an_epoch
        return SimpleNamespace(tokens=tokens)


def perplexity(nll_sum: float, tokens: int) -> float:
    """exp(nll_sum / tokens); infinity if that overflows a float64. nll_sum in nats."""
    return evaluate.Score(nll_sum, tokens).perplexity


def tokenizer(texts: Sequence[str]) -> Tokenizer:
    """Byte-pair encoding with 64 tokens, trained on `texts`. UsageError if they give fewer tokens."""
    return train_on_texts(texts)


def ngram_baselines(
    train: Sequence[Sequence[int]], val: Sequence[Sequence[int]], vocab_size: int
) -> list[dict[str, Any]]:
    """Every n-gram baseline: kind, n, parameter, and its nll_sum in nats over the `tokens` of val."""
    return [
        {name: result[name] for name in ("kind", "n", "parameter")}
        | {name: result["val"][name] for name in ("nll_sum", "tokens")}
        for result in ngram.baselines(train, val, vocab_size)
    ]


# ---- files


def save_checkpoint(folder: str, step: int) -> str:
    """The path of a complete checkpoint of that update in `folder`, of the model of `trainer`."""
    return str(checkpoint.save(Path(folder), "", step, _machines(), {}, None))


def latest_checkpoint(folder: str) -> str | None:
    """The path of the newest checkpoint in `folder` that is complete and unaltered; None if there is none."""
    expected = checkpoint.Expected.of("", _machines())
    found = checkpoint.newest(Path(folder), expected, lambda log: True, lambda line: None)
    return str(found.path) if found else None


CHECKPOINT = {"E": np.ones((3, 2), np.float32), "b": np.ones(3, np.float32)}
MOMENTS = {f"{kind}.{name}": x for kind in "mv" for name, x in CHECKPOINT.items()}


def _machines() -> dict[str, checkpoint.StateMachine]:
    return {"model": _Machine(CHECKPOINT), "optimizer": _Machine(MOMENTS)}


class _Machine:
    """A state that can be saved."""

    def __init__(self, state: dict[str, Any]) -> None:
        self._state = state

    def state(self) -> dict[str, Any]:
        return dict(self._state)

    def restore(self, state: dict[str, Any]) -> None:
        self._state = state


def export(params: dict[str, Array], path: str) -> None:
    """Write arrays of any shape to a safetensors file, which replaces what is at `path` when it is complete."""
    atomic_write(Path(path), tensors.to_bytes(params))


# ---- layout of arrays


def _rows(x: Array) -> Array:
    """[..., D] as [N, D]."""
    return np.ascontiguousarray(x).reshape(-1, x.shape[-1])


def _merge_heads(x: Array) -> Array:
    """[B, H, T, K] as the kernels' [B * T, H * K]; always a copy, as some kernels work in place."""
    batch, heads, length, size = x.shape
    return x.transpose(0, 2, 1, 3).copy().reshape(batch * length, heads * size)


def _split_heads(x: Array, heads: int, length: int) -> Array:
    """[B * T, H * K] as [B, H, T, K]."""
    batch, size = x.shape[0] // length, x.shape[1] // heads
    return np.ascontiguousarray(x.reshape(batch, length, heads, size).transpose(0, 2, 1, 3))
