"""Wrong implementations, each with one mistake in one function, and the properties that must refuse it.

Every property is named by at least one of them (tests/test_properties_bite.py checks that): a property that no mistake
can fail is no property. A wrong function stands in for the correct one of tests/oracle_subject.py.
"""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from reference import (
    activation,
    clipping,
    data,
    dropout,
    gradients,
    loss,
    model,
    normalisation,
    rotary,
    rounding,
)
from reference.attention import masked_softmax
from reference.masks import attention_mask
from reference.philox import counters, philox4x32, stream_key
from tests.oracle_subject import SUBJECT, DataIterator, in_dtype_of_arguments

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Wrong:
    """One mistake: the function it is in, the function to use instead, and the tests that must fail."""

    name: str
    function: str
    instead: Callable[..., Any]
    refused_by: tuple[str, ...]


WRONG: list[Wrong] = []


def wrong(function: str, *refused_by: str, name: str = "", cast: bool = True) -> Callable[..., Any]:
    """Enter a function into the table; with `cast`, its results get the dtype of its float arguments."""

    def enter(instead: Callable[..., Any]) -> Callable[..., Any]:
        used = in_dtype_of_arguments(instead) if cast else instead
        WRONG.append(Wrong(name or instead.__name__, function, used, refused_by))
        return instead

    return enter


# --- loss ---


@wrong("cross_entropy", "test_loss.py::test_loss_is_the_negative_log_likelihood")
def loss_in_bits(logits, targets, mask):
    value, gradient = loss.cross_entropy(logits, targets, mask)
    return value / math.log(2.0), gradient


@wrong("cross_entropy", "test_loss.py::test_loss_is_the_negative_log_likelihood")
def log_of_a_probability(logits, targets, mask):
    with np.errstate(divide="ignore"):
        nll = -np.log(np.take_along_axis(loss.softmax(logits), targets[..., None], -1)[..., 0])
    return loss.masked_mean(nll, mask), loss.cross_entropy(logits, targets, mask)[1]


@wrong(
    "cross_entropy",
    "test_loss.py::test_mean_divides_by_unmasked_tokens",
    "test_loss.py::test_micro_batches_weighted_by_tokens_add_up",
)
def mean_of_row_means(logits, targets, mask):
    nll = np.where(mask, loss.token_nll(logits, targets), 0.0)
    rows = nll.sum(axis=1) / np.maximum(mask.sum(axis=1), 1)
    return rows.mean(), loss.cross_entropy(logits, targets, mask)[1]


@wrong("cross_entropy", "test_loss.py::test_mean_divides_by_unmasked_tokens")
def mean_over_positions(logits, targets, mask):
    value, gradient = loss.cross_entropy(logits, targets, mask)
    return value * mask.sum() / mask.size, gradient * mask.sum() / mask.size


@wrong("cross_entropy", "test_loss.py::test_gradient_is_softmax_minus_one_hot_per_token")
def gradient_of_the_sum(logits, targets, mask):
    value, gradient = loss.cross_entropy(logits, targets, mask)
    return value, gradient * max(mask.sum(), 1)


@wrong("cross_entropy", "test_loss.py::test_nothing_to_predict_is_a_loss_of_zero")
def divided_by_no_tokens(logits, targets, mask):
    value, gradient = loss.cross_entropy(logits, targets, mask)
    return (value, gradient) if mask.any() else (math.nan, gradient * math.nan)


@wrong("cross_entropy", "test_loss.py::test_masked_positions_change_nothing")
def mask_forgotten(logits, targets, mask):
    return loss.cross_entropy(logits, targets, np.ones_like(mask))


@wrong("cross_entropy", "test_loss.py::test_an_infinite_logit_at_a_masked_position_is_ignored")
def masked_by_multiplication(logits, targets, mask):
    with np.errstate(all="ignore"):
        value = (loss.token_nll(logits, targets) * mask).sum() / max(mask.sum(), 1)
        return value, loss.cross_entropy(logits, targets, mask)[1]


@wrong("cross_entropy", "test_loss.py::test_a_constant_added_to_the_logits_changes_nothing")
def logit_subtracted_last(logits, targets, mask):
    largest = logits.max(axis=-1)
    log_sum = largest + np.log(np.exp(logits - largest[..., None]).sum(axis=-1))
    nll = log_sum - np.take_along_axis(logits, targets[..., None], -1)[..., 0]
    return loss.masked_mean(nll, mask), loss.cross_entropy(logits, targets, mask)[1]


@wrong("cross_entropy", "test_loss.py::test_rows_have_no_order")
def mask_of_the_row_before(logits, targets, mask):
    return loss.cross_entropy(logits, targets, np.roll(mask, 1, axis=0))


# --- batches ---


@wrong("make_batch", "test_masks.py::test_the_target_is_the_next_token", cast=False)
def unshifted(sequences):
    inputs, _, *masks = data.make_batch(sequences)
    return inputs, inputs.copy(), *masks


@wrong("make_batch", "test_masks.py::test_the_target_is_the_next_token", cast=False)
def shifted_twice(sequences):
    inputs, targets, *masks = data.make_batch(sequences)
    return inputs, np.concatenate([targets[:, 1:], targets[:, :1]], axis=1), *masks


@wrong("make_batch", "test_masks.py::test_masks_mark_real_positions_whatever_the_token", cast=False)
def masked_by_token_id(sequences):
    inputs, targets, *_ = data.make_batch(sequences)
    return inputs, targets, targets != 0, inputs != 0


@wrong("make_batch", "test_masks.py::test_rows_are_padded_on_the_right_to_the_longest", cast=False)
def padded_to_the_context(sequences):
    return tuple(np.pad(x, [(0, 0), (0, 3)]) for x in data.make_batch(sequences))


@wrong("make_batch", "test_masks.py::test_rows_are_padded_on_the_right_to_the_longest", cast=False)
def padded_with_minus_hundred(sequences):
    inputs, targets, real, keys = data.make_batch(sequences)
    return inputs, np.where(real, targets, -100), real, keys


# --- attention ---


def attend(q, k, v, visible, scale):
    return masked_softmax(q @ k.swapaxes(-1, -2) * scale, visible) @ v


@wrong("attention", "test_attention.py::test_attention_is_its_formula")
def unscaled(q, k, v, key_mask):
    return attend(q, k, v, attention_mask(key_mask), 1.0)


@wrong("attention", "test_attention.py::test_attention_is_its_formula")
def not_looking_at_itself(q, k, v, key_mask):
    strict = np.tril(np.ones((q.shape[2],) * 2, dtype=bool), -1)
    return attend(q, k, v, attention_mask(key_mask) & strict, 1.0 / math.sqrt(q.shape[-1]))


@wrong("attention", "test_attention.py::test_later_positions_change_nothing_earlier")
def looking_one_ahead(q, k, v, key_mask):
    ahead = np.tril(np.ones((q.shape[2],) * 2, dtype=bool), 1) & key_mask[:, None, None, :]
    return attend(q, k, v, ahead, 1.0 / math.sqrt(q.shape[-1]))


@wrong("attention", "test_attention.py::test_masked_keys_change_nothing")
def padding_attended(q, k, v, key_mask):
    return attend(q, k, v, attention_mask(np.ones_like(key_mask)), 1.0 / math.sqrt(q.shape[-1]))


@wrong("attention", "test_attention.py::test_a_position_that_sees_nothing_gives_zeros")
def uniform_when_nothing_is_seen(q, k, v, key_mask):
    visible = attention_mask(key_mask)
    blind = ~visible.any(axis=-1, keepdims=True)
    return attend(q, k, v, visible | blind, 1.0 / math.sqrt(q.shape[-1]))


@wrong("attention_backward", "test_attention.py::test_gradient_is_that_of_the_formula")
def softmax_gradient_without_its_mean(q, k, v, key_mask, dout):
    scale = 1.0 / math.sqrt(q.shape[-1])
    weights = masked_softmax(q @ k.swapaxes(-1, -2) * scale, attention_mask(key_mask))
    scores = weights * (dout @ v.swapaxes(-1, -2))
    return scores @ k * scale, scores.swapaxes(-1, -2) @ q * scale, weights.swapaxes(-1, -2) @ dout


@wrong(
    "attention_backward",
    "test_attention.py::test_masked_keys_get_no_gradient",
    "test_attention.py::test_a_position_that_sees_nothing_gives_zeros",
)
def gradient_ignores_the_key_mask(q, k, v, key_mask, dout):
    return SUBJECT["attention_backward"](q, k, v, np.ones_like(key_mask), dout)


# --- normalisation, activation, rotary ---


@wrong("layer_norm", "test_normalisation.py::test_layer_norm_is_its_formula")
def variance_with_d_minus_one(x, gamma, beta, eps):
    width = x.shape[-1]
    deviation = np.sqrt(x.var(axis=-1, keepdims=True) * width / max(width - 1, 1) + eps)
    return (x - x.mean(axis=-1, keepdims=True)) / deviation * gamma + beta


@wrong("layer_norm", "test_normalisation.py::test_layer_norm_is_its_formula")
def eps_outside_the_root(x, gamma, beta, eps):
    return (x - x.mean(axis=-1, keepdims=True)) / (x.std(axis=-1, keepdims=True) + eps) * gamma + beta


@wrong("layer_norm", "test_normalisation.py::test_layer_norm_is_its_formula")
def one_pass_variance(x, gamma, beta, eps):
    mean = x.mean(axis=-1, keepdims=True)
    variance = np.maximum((x * x).mean(axis=-1, keepdims=True) - mean * mean, 0.0)
    return (x - mean) / np.sqrt(variance + eps) * gamma + beta


@wrong("layer_norm_backward", "test_normalisation.py::test_gradient_goes_through_mean_and_deviation")
def statistics_taken_as_constants(x, gamma, eps, dy):
    normalised, deviation = normalisation.normalise(x, eps)
    return dy * gamma / deviation, (dy * normalised).sum(axis=0), dy.sum(axis=0)


@wrong("gelu", "test_activation.py::test_gelu_is_exact")
def tanh_gelu(x):
    return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


@wrong("gelu_backward", "test_activation.py::test_gradient_is_that_of_the_formula")
def density_without_x(x, dy):
    return dy * (activation.normal_cdf(x) + np.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi))


def turned(x, base, first_position=0, exponent=1.0, pairs_apart=True):
    size = x.shape[-1]
    position = (np.arange(x.shape[-2]) + first_position)[:, None] ** exponent
    angle = position * base ** (-2.0 * np.arange(size // 2) / size)
    a, b = (x[..., : size // 2], x[..., size // 2 :]) if pairs_apart else (x[..., 0::2], x[..., 1::2])
    parts = a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)
    return np.concatenate(parts, -1) if pairs_apart else np.stack(parts, -1).reshape(x.shape)


@wrong("rope", "test_rotary.py::test_pairs_are_turned_by_their_angle")
def neighbouring_pairs(x, base):
    return turned(x, base, pairs_apart=False)


@wrong("rope", "test_rotary.py::test_pairs_are_turned_by_their_angle")
def positions_from_one(x, base):
    return turned(x, base, first_position=1)


@wrong("rope", "test_rotary.py::test_dot_products_depend_on_distance_alone")
def positions_squared(x, base):
    return turned(x, base, exponent=2.0)


@wrong("rope_backward", "test_rotary.py::test_gradient_is_turned_back")
def turned_the_same_way(dy, base):
    return rotary.rope(dy, base)


# --- dropout ---


@wrong("dropout", "test_dropout.py::test_the_mask_is_that_of_the_counter")
def comparison_reversed(x, p, seed, step, site, context):
    mask = dropout.kept(x.shape, 1.0 - p, seed=seed, step=step, site=site, context=context)
    return np.where(mask, 0.0, x / (1.0 - p))


@wrong("dropout", "test_dropout.py::test_kept_entries_are_divided_by_one_minus_p")
def not_inverted(x, p, seed, step, site, context):
    return dropout.dropout(x, p, seed, step, site, context) * (1.0 - p)


@wrong("dropout", "test_dropout.py::test_the_mask_does_not_depend_on_the_batch")
def indexed_by_batch_length(x, p, seed, step, site, context):
    return dropout.dropout(x, p, seed, step, site, x.shape[1])


@wrong("dropout", "test_dropout.py::test_seed_step_and_site_choose_the_mask")
def same_mask_at_every_step(x, p, seed, step, site, context):
    return dropout.dropout(x, p, seed, 0, site, context)


@wrong("dropout", "test_dropout.py::test_seed_step_and_site_choose_the_mask")
def same_mask_at_every_site(x, p, seed, step, site, context):
    return dropout.dropout(x, p, seed, step, 0, context)


@wrong("dropout", "test_dropout.py::test_nothing_is_dropped_at_p_zero")
def always_a_tenth(x, p, seed, step, site, context):
    return dropout.dropout(x, 0.1, seed, step, site, context)


class OneGenerator:
    """Dropout from a generator that remembers: the mask depends on what was drawn before."""

    def __init__(self) -> None:
        self.generator = np.random.default_rng(0)

    def __call__(self, x, p, seed, step, site, context):
        return np.where(self.generator.random(x.shape) >= p, x / (1.0 - p), 0.0)


wrong("dropout", "test_contract.py::test_the_same_call_gives_the_same_bytes", name="one_generator")(
    OneGenerator()
)


@wrong("dropout", "test_contract.py::test_no_global_random_generator_is_used")
def global_generator(x, p, seed, step, site, context):
    random.seed(seed)
    return dropout.dropout(x, p, seed, step, site, context)


# --- model ---


@wrong("initial_parameters", "test_model.py::test_the_locked_model_has_103680_parameters", cast=False)
def untied_head(seed, config):
    params = SUBJECT["initial_parameters"](seed, config)
    return params | {"head": params["E"].T.copy()}


@wrong("initial_parameters", "test_model.py::test_parameters_have_the_locked_names_and_shapes", cast=False)
def transposed_weights(seed, config):
    return {name: x.T for name, x in SUBJECT["initial_parameters"](seed, config).items()}


@wrong("initial_parameters", "test_model.py::test_first_values_follow_their_law", cast=False)
def variance_for_deviation(seed, config):
    params = SUBJECT["initial_parameters"](seed, config)
    return {n: x * math.sqrt(0.02) / 0.02 if x.ndim == 2 else x for n, x in params.items()}


@wrong("initial_parameters", "test_model.py::test_first_values_follow_their_law", cast=False)
def residual_branches_scaled_down(seed, config):
    params = SUBJECT["initial_parameters"](seed, config)
    return {n: x / 2.0 if n.endswith(("W_o", "W_2")) else x for n, x in params.items()}


@wrong("initial_parameters", "test_model.py::test_first_values_are_a_function_of_the_seed", cast=False)
def one_stream_started_again_for_each_tensor(seed, config):
    params = SUBJECT["initial_parameters"](seed, config)
    shapes = model.parameter_shapes(config)
    fresh = {n: np.random.default_rng(seed).normal(0.0, 0.02, shapes[n]) for n in params}
    return {n: fresh[n] if x.ndim == 2 else x for n, x in params.items()}


@wrong("forward", "test_model.py::test_logits_are_those_of_the_formula")
def no_final_norm(params, tokens, key_mask, config):
    layers = model.forward_layers(params, tokens, key_mask, config)
    return layers[f"block_{config['n_layers'] - 1}_out"] @ params["E"].T


@wrong("forward", "test_model.py::test_logits_are_those_of_the_formula")
def first_block_twice(params, tokens, key_mask, config):
    blocks = {n: params[n.replace("block_1", "block_0")] for n in params}
    return model.forward(blocks, tokens, key_mask, config)


@wrong("forward", "test_model.py::test_later_tokens_change_no_earlier_logit")
def whole_row_seen(params, tokens, key_mask, config):
    x = model.forward_layers(params, tokens, key_mask, config)["final_ln_out"]
    return (x + 0.1 * x.mean(axis=1, keepdims=True)) @ params["E"].T


@wrong("forward", "test_model.py::test_padding_changes_no_real_logit")
def key_mask_not_passed_on(params, tokens, key_mask, config):
    return model.forward(params, tokens, np.ones_like(key_mask), config)


@wrong("forward", "test_model.py::test_rows_do_not_influence_each_other")
def centred_over_the_batch(params, tokens, key_mask, config):
    logits = model.forward(params, tokens, key_mask, config)
    return logits - logits.mean(axis=0)


def with_loss(change):
    """loss_and_gradients with something done to the oracle's gradients."""

    def function(params, inputs, targets, loss_mask, key_mask, config):
        value, grads = gradients.loss_and_gradients(params, inputs, targets, loss_mask, key_mask, config)
        return value, change(grads, loss_mask)

    return function


GRADIENT = "test_gradients.py::test_gradients_are_those_of_the_loss"
LOCKED = "test_gradients.py::test_gradients_of_the_locked_model"
MICRO = "test_gradients.py::test_micro_batches_weighted_by_tokens_add_up"
for label, change in {
    "bias_without_gradient": lambda g, mask: g | {"block_0.ffn.b_1": 0.0 * g["block_0.ffn.b_1"]},
    "queries_and_keys_swapped": lambda g, mask: g | {"block_0.attn.W_q": g["block_0.attn.W_k"]},
    "gain_and_shift_swapped": lambda g, mask: g | {"ln_final.gamma": g["ln_final.beta"]},
}.items():
    wrong("loss_and_gradients", GRADIENT, LOCKED, name=label)(with_loss(change))
wrong("loss_and_gradients", MICRO, name="summed_over_tokens")(
    with_loss(lambda g, mask: {n: x * mask.sum() for n, x in g.items()})
)
wrong(
    "loss_and_gradients", "test_gradients.py::test_nothing_to_predict_gives_no_gradient", name="zero_by_zero"
)(with_loss(lambda g, mask: g if mask.any() else {n: x * math.nan for n, x in g.items()}))


@wrong("loss_and_gradients", GRADIENT)
def table_of_embeddings_without_gradient(params, inputs, targets, loss_mask, key_mask, config):
    args = params, inputs, targets, loss_mask, key_mask, config
    value, grads = gradients.loss_and_gradients(*args)
    final = model.forward_layers(params, inputs, key_mask, config)["final_ln_out"]
    dlogits = loss.cross_entropy(final @ params["E"].T, targets, loss_mask)[1]
    vocab, width = params["E"].shape
    return value, grads | {"E": dlogits.reshape(-1, vocab).T @ final.reshape(-1, width)}


@wrong("loss_and_gradients", "test_gradients.py::test_masked_targets_and_padding_change_no_gradient")
def trained_on_padding(params, inputs, targets, loss_mask, key_mask, config):
    return gradients.loss_and_gradients(params, inputs, targets, np.ones_like(loss_mask), key_mask, config)


# --- optimizer and clipping ---

UPDATE = "test_optimizer.py::test_every_update_is_the_formula"


def adamw(p, g, m, v, t, lr, beta1, beta2, eps, weight_decay, mistake):
    """AdamW with one mistake of this name."""
    kept = 1.0 - (1.0 if mistake == "decay_not_times_lr" else lr) * weight_decay
    if mistake == "l2_instead_of_decay":
        g = g + weight_decay * p
    elif mistake != "decay_after_the_update":
        p = p * kept
    t = {"t_from_zero": t - 1, "t_counted_twice": 2 * t}.get(mistake, t)
    m, v = beta1 * m + (1.0 - beta1) * g, beta2 * v + (1.0 - beta2) * g * g
    c1, c2 = (1.0 - beta1**t, 1.0 - beta2**t) if t else (1.0, 1.0)
    root = {
        "eps_in_the_root": lambda: np.sqrt(v / c2 + eps),
        "eps_before_the_correction": lambda: (np.sqrt(v) + eps) / math.sqrt(c2),
        "no_correction": lambda: math.sqrt(c2) * (np.sqrt(v / c2) + eps),
    }.get(mistake, lambda: np.sqrt(v / c2) + eps)()
    p = p - lr * (m / c1) / root
    return p * kept if mistake == "decay_after_the_update" else p, m, v


def adamw_with(mistake):
    return lambda p, g, m, v, **settings: adamw(p, g, m, v, **settings, mistake=mistake)


for label in (
    "decay_not_times_lr",
    "decay_after_the_update",
    "t_from_zero",
    "t_counted_twice",
    "eps_in_the_root",
    "eps_before_the_correction",
    "no_correction",
):
    wrong("adamw_step", UPDATE, name=label)(adamw_with(label))
wrong(
    "adamw_step",
    UPDATE,
    "test_optimizer.py::test_without_a_gradient_only_decay_acts",
    name="l2_instead_of_decay",
)(adamw_with("l2_instead_of_decay"))


@wrong("decays", "test_optimizer.py::test_matrices_decay_and_nothing_else", cast=False)
def everything_decays(names):
    return [True for _ in names]


@wrong("clip_by_global_norm", "test_clipping.py::test_the_norm_is_that_of_all_gradients")
def norm_in_the_dtype_of_the_gradients(grads, max_norm):
    with np.errstate(all="ignore"):
        norm = np.sqrt(sum(np.sum(g * g, dtype=g.dtype) for g in grads))
    return clipping.clip_by_global_norm(grads, max_norm)[0], norm


@wrong("clip_by_global_norm", "test_clipping.py::test_gradients_are_scaled_to_the_limit")
def each_tensor_clipped_alone(grads, max_norm):
    clipped = [clipping.clip_by_global_norm([g], max_norm)[0][0] for g in grads]
    return clipped, clipping.global_norm(grads)


@wrong("clip_by_global_norm", "test_clipping.py::test_gradients_are_scaled_to_the_limit")
def values_clipped(grads, max_norm):
    return [np.clip(g, -max_norm, max_norm) for g in grads], clipping.global_norm(grads)


@wrong("clip_by_global_norm", "test_clipping.py::test_nothing_changes_below_the_limit")
def blown_up_to_the_limit(grads, max_norm):
    norm = clipping.global_norm(grads)
    return [g * (max_norm / max(norm, 1e-300)) for g in grads], norm


@wrong("clip_by_global_norm", "test_clipping.py::test_nothing_changes_at_the_limit")
def epsilon_in_the_divisor(grads, max_norm):
    norm = clipping.global_norm(grads)
    return [g * min(1.0, max_norm / (norm + 1e-6)) for g in grads], norm


# --- schedule ---

TABLE = "test_schedule.py::test_rates_are_the_table"
SHAPE = "test_schedule.py::test_the_shape_has_one_peak_and_ends_on_the_floor"


def cosine(share, peak, floor):
    return floor + (peak - floor) * 0.5 * (1.0 + math.cos(math.pi * share))


@wrong("learning_rate", TABLE, SHAPE, cast=False)
def first_update_wasted(step, **shape):
    warm = step < shape["warmup"]
    return shape["peak"] * step / shape["warmup"] if warm else SUBJECT["learning_rate"](step, **shape)


@wrong("learning_rate", TABLE, SHAPE, cast=False)
def peak_used_twice(step, *, peak, floor, warmup, total):
    warmup = min(warmup, total)
    if step < warmup:
        return peak * (step + 1) / warmup
    return cosine((step - warmup) / (total - warmup), peak, floor) if step < total else floor


@wrong("learning_rate", SHAPE, cast=False)
def rising_after_the_end(step, *, peak, floor, warmup, total):
    warmup = min(warmup, total)
    if step < warmup:
        return peak * (step + 1) / warmup
    return cosine((step - warmup + 1) / max(total - warmup, 1), peak, floor)


@wrong("learning_rate", TABLE, cast=False)
def warmup_longer_than_the_run(step, **shape):
    if step < shape["warmup"]:
        return shape["peak"] * (step + 1) / shape["warmup"]
    return SUBJECT["learning_rate"](step, **shape)


# --- data ---


@wrong("epoch_order", "test_data.py::test_epochs_and_seeds_have_their_own_order", cast=False)
def same_order_every_epoch(n, seed, epoch):
    return data.epoch_order(n, seed, 0)


@wrong("epoch_order", "test_data.py::test_the_order_is_the_argsort_of_philox_words", cast=False)
def sorted_by_half_a_word(n, seed, epoch):
    return np.argsort(
        philox4x32(counters(np.arange(n), 0, epoch), stream_key(seed, "data"))[:, 0], kind="stable"
    )


@wrong("epoch_order", "test_data.py::test_data_and_control_streams_are_separate", cast=False)
def order_from_the_control_stream(n, seed, epoch):
    words = philox4x32(counters(np.arange(n), 0, epoch), stream_key(seed, "control")).astype(np.uint64)
    return np.argsort(words[:, 0] | words[:, 1] << np.uint64(32), kind="stable")


class LastBatchDropped(DataIterator):
    def next_batch(self):
        batch = super().next_batch()
        return batch if len(batch[0]) == min(self.batch_size, len(self.sequences)) else super().next_batch()


class StateOfTheEpochOnly(DataIterator):
    def state(self):
        return {"batches": self.given - self.given % -(-len(self.sequences) // self.batch_size)}


class StateIsNotJson(DataIterator):
    def state(self):
        return {"batches": np.int64(self.given)}


RESTORED = "test_data.py::test_a_restored_iterator_goes_on_as_the_original"
EPOCH = "test_data.py::test_an_epoch_visits_every_sequence_once"
wrong("data_iterator", EPOCH, name="last_batch_dropped", cast=False)(LastBatchDropped)
wrong("data_iterator", RESTORED, name="state_of_the_epoch_only", cast=False)(StateOfTheEpochOnly)
wrong("data_iterator", RESTORED, name="state_is_not_json", cast=False)(StateIsNotJson)


# --- rounding, matrix product, perplexity, contract ---

NEAREST = "test_rounding.py::test_weights_are_rounded_to_nearest_even"


@wrong("round_weights", NEAREST)
def truncated(x, form):
    bits, smallest, _ = rounding.FORMATS[form]
    spacing = np.maximum(np.frexp(x)[1] - 1, smallest) - bits + 1
    return np.ldexp(np.trunc(np.ldexp(x, -spacing)), spacing)


@wrong("round_weights", NEAREST)
def rounded_twice(x, form):
    with np.errstate(over="ignore"):
        return rounding.round_weights(x.astype(np.float32), form)


@wrong("matmul", "test_matmul.py::test_entries_are_dot_products")
def last_term_forgotten(a, b):
    return a[:, :-1] @ b[:-1]


@wrong("matmul", "test_matmul.py::test_entries_are_dot_products")
def single_precision_inside(a, b):
    return a.astype(np.float32) @ b.astype(np.float32)


@wrong("perplexity", "test_perplexity.py::test_perplexity_is_exp_of_the_token_mean", cast=False)
def two_to_the_nats(nll_sum, tokens):
    return 2.0 ** (nll_sum / tokens)


@wrong("perplexity", "test_perplexity.py::test_a_uniform_model_has_the_size_of_its_vocabulary", cast=False)
def one_token_too_many(nll_sum, tokens):
    return math.exp(nll_sum / (tokens + 1))


@wrong("gelu", "test_contract.py::test_results_have_the_shape_and_dtype_of_the_law", cast=False)
def always_double(x):
    return activation.gelu(x.astype(np.float64))


@wrong("gelu_backward", "test_contract.py::test_arguments_are_left_as_they_were", cast=False)
def written_into_its_argument(x, dy):
    dy *= activation.gelu_backward(x, np.ones_like(x))
    return dy


wrong(
    "rope",
    "test_contract.py::test_every_function_of_the_protocol_is_there",
    name="not_a_function",
    cast=False,
)(None)
