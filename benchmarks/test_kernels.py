"""Timings of each kernel at the sizes of a training step, through the functional protocol."""

import numpy as np
import pytest

from benchmarks.conftest import BATCH, LENGTH
from reference.model import DEFAULT_CONFIG

WIDTH, HIDDEN, VOCABULARY, HEADS = 64, 256, 64, 4
ROWS = BATCH * LENGTH


@pytest.mark.parametrize(
    ("rows", "depth", "columns"),
    [(ROWS, WIDTH, WIDTH), (ROWS, WIDTH, HIDDEN), (ROWS, HIDDEN, WIDTH), (WIDTH, ROWS, HIDDEN)],
)
def test_matmul(timed, subject, random, dtype, rows, depth, columns):
    a, b = random.standard_normal((rows, depth)), random.standard_normal((depth, columns))
    timed(subject.matmul, a.astype(dtype), b.astype(dtype))


def test_cross_entropy(timed, subject, random, dtype):
    logits = random.standard_normal((BATCH, LENGTH, VOCABULARY)).astype(dtype)
    targets = random.integers(0, VOCABULARY, (BATCH, LENGTH))
    timed(subject.cross_entropy, logits, targets, np.ones((BATCH, LENGTH), dtype=bool))


def test_layer_norm(timed, subject, random, dtype):
    x = random.standard_normal((BATCH, LENGTH, WIDTH)).astype(dtype)
    timed(subject.layer_norm, x, np.ones(WIDTH, dtype), np.zeros(WIDTH, dtype), 1e-5)


def test_layer_norm_backward(timed, subject, random, dtype):
    x, dy = random.standard_normal((2, BATCH, LENGTH, WIDTH)).astype(dtype)
    timed(subject.layer_norm_backward, x, np.ones(WIDTH, dtype), 1e-5, dy)


def test_gelu(timed, subject, random, dtype):
    timed(subject.gelu, random.standard_normal((ROWS, HIDDEN)).astype(dtype))


def test_rope(timed, subject, random, dtype):
    x = random.standard_normal((BATCH, HEADS, LENGTH, WIDTH // HEADS)).astype(dtype)
    timed(subject.rope, x, DEFAULT_CONFIG["rope_base"])


def test_attention(timed, subject, random, dtype):
    q, k, v = random.standard_normal((3, BATCH, HEADS, LENGTH, WIDTH // HEADS)).astype(dtype)
    timed(subject.attention, q, k, v, np.ones((BATCH, LENGTH), dtype=bool))


def test_attention_backward(timed, subject, random, dtype):
    q, k, v, dout = random.standard_normal((4, BATCH, HEADS, LENGTH, WIDTH // HEADS)).astype(dtype)
    timed(subject.attention_backward, q, k, v, np.ones((BATCH, LENGTH), dtype=bool), dout)


def test_dropout(timed, subject, random, dtype):
    x = random.standard_normal((BATCH, LENGTH, WIDTH)).astype(dtype)
    timed(subject.dropout, x, 0.1, seed=0, step=0, site=0, context=32)


def test_adamw(timed, subject, parameters):
    p = np.concatenate([value.reshape(-1) for value in parameters.values()])
    settings = {"lr": 1e-3, "beta1": 0.9, "beta2": 0.95, "eps": 1e-8, "weight_decay": 0.1}
    timed(subject.adamw_step, p, 0.01 * p, np.zeros_like(p), np.zeros_like(p), t=1, **settings)


def test_clip_by_global_norm(timed, subject, parameters):
    timed(subject.clip_by_global_norm, list(parameters.values()), 1.0)
