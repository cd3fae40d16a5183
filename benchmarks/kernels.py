"""Each kernel at the sizes of a step over 512 positions: against PyTorch, and against what the machine can do.

python -m benchmarks.kernels writes runs/kernels.json, of which benchmarks/page.py makes a part of docs/performance.md.
One thread. Compilation is outside. A round times a kernel, PyTorch, a copy of as many bytes and arithmetic in
registers; a ratio is a median over the rounds.
"""

import importlib.util
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from impl.kernels import (
    activation,
    adamw,
    attention,
    dropout,
    elementwise,
    gemm,
    layer_norm,
    loss,
    reduce,
    rotary,
)
from impl.kernels.batch_worker import sequences_per_item
from impl.kernels.runtime.memory import aligned_zeros

OUT = Path(__file__).resolve().parents[1] / "runs" / "kernels.json"
BATCH, LENGTH, WIDTH, HIDDEN, VOCABULARY, HEADS, PARAMETERS = 16, 32, 64, 256, 64, 4, 103_680
ROWS = BATCH * LENGTH
ITEM_ROWS = LENGTH * sequences_per_item(LENGTH, WIDTH)
ROUNDS, ROUND_SECONDS = 15, 0.01
Array = np.ndarray[Any, np.dtype[Any]]
Call = Callable[[], Any]


@dataclass(frozen=True)
class Case:
    """A kernel's call, the same by PyTorch, and what it must do at least."""

    name: str
    ours: Call
    torch: Call | None
    traffic: int
    """Bytes that have to be read or written once."""
    flops: int = 0
    """Of a matrix product; 0 where exp and the like make a count meaningless."""


def drawn(dtype: str, *shape: int) -> Array:
    """Standard normal numbers on a cache line."""
    x = aligned_zeros(shape, dtype)
    x[...] = np.random.default_rng(sum(shape)).standard_normal(shape)
    return x


def products(dtype: str, torch: Any) -> list[Case]:
    """The matrix products of a step: forward and to the input, to the weights; of a work item, as in a step, and of
    all rows at once.
    """
    cases = []
    for rows, of in ((ITEM_ROWS, "a work item's "), (ROWS, "")):
        for what, shape in (
            ("x W, 64 to 64", (rows, WIDTH, WIDTH)),
            ("x W, 64 to 256", (rows, WIDTH, HIDDEN)),
            ("x W, 256 to 64", (rows, HIDDEN, WIDTH)),
            ("x' dy, 64 by 64", (WIDTH, rows, WIDTH)),
            ("x' dy, 64 by 256", (WIDTH, rows, HIDDEN)),
            ("x' dy, 256 by 64", (HIDDEN, rows, WIDTH)),
        ):
            cases.append(product(f"GEMM {of}{what}", dtype, torch, *shape, turned="dy" in what))
    return cases


def product(name: str, dtype: str, torch: Any, rows: int, depth: int, columns: int, *, turned: bool) -> Case:
    """a @ b, a [rows, depth] the transpose of what lies in memory if `turned`."""
    a = drawn(dtype, depth, rows).T if turned else drawn(dtype, rows, depth)
    b, c = drawn(dtype, depth, columns), drawn(dtype, rows, columns)
    traffic, flops = sum(x.nbytes for x in (a, b, c)), 2 * rows * depth * columns
    peer = torch and torch_product(torch, a, b, c)
    return Case(name, lambda: gemm.gemm(a, b, c, False), peer, traffic, flops)


def torch_product(torch: Any, *arrays: Array) -> Call:
    a, b, c = (torch.from_numpy(x) for x in arrays)
    return lambda: torch.mm(a, b, out=c)


def rows(dtype: str, torch: Any) -> list[Case]:
    """What is done row by row."""
    number = np.dtype(dtype).type
    x, y, normalised, dy = (drawn(dtype, ROWS, WIDTH) for _ in range(4))
    gamma, beta, deviation = drawn(dtype, WIDTH), drawn(dtype, WIDTH), np.ones(ROWS, dtype)
    h, active, slope = (drawn(dtype, ROWS, HIDDEN) for _ in range(3))
    logits, dlogits, nll = drawn(dtype, ROWS, VOCABULARY), drawn(dtype, ROWS, VOCABULARY), np.empty(ROWS)
    targets, counted = np.arange(ROWS) % VOCABULARY, np.ones(ROWS, np.bool_)
    turned, dropped = drawn(dtype, ROWS, WIDTH), drawn(dtype, ROWS, WIDTH)
    keep = np.ones((ROWS, WIDTH), np.bool_)
    angle = np.arange(LENGTH)[:, None] * np.ones(WIDTH)
    tables = np.cos(angle).astype(dtype), np.sin(angle).astype(dtype)
    key, eps, half = np.array([1, 2], np.uint32), number(1e-5), WIDTH // HEADS // 2
    peers: dict[str, Call] = torch_rows(torch, x, gamma, beta, h, logits, targets) if torch else {}
    forward = layer_norm.layer_norm, (x, gamma, beta, eps, y, normalised, deviation)
    cases = {
        "LayerNorm": (*forward, 3 * x.nbytes),
        "LayerNorm, backward": (
            layer_norm.layer_norm_backward,
            (dy, normalised, deviation, gamma, y),
            3 * x.nbytes,
        ),
        "GELU and its slope": (activation.gelu, (h, active, slope), 3 * h.nbytes),
        "cross-entropy and gradient": (
            loss.cross_entropy,
            (logits, targets, counted, number(1.0), nll, dlogits),
            2 * logits.nbytes,
        ),
        "rotary embedding": (rotary.rotate, (turned, *tables, half, np.arange(ROWS) % LENGTH), 2 * x.nbytes),
        "dropout, with its mask": (
            drop,
            (key, np.arange(ROWS), keep, dropped, number(1.0)),
            2 * x.nbytes + keep.nbytes,
        ),
        "residual sum": (elementwise.add, (x, dy, y), 3 * x.nbytes),
    }
    return [
        Case(name, lambda f=f, args=args: f(*args), peers.get(name), traffic)  # type: ignore[misc]
        for name, (f, args, traffic) in cases.items()
    ]


def drop(key: Array, places: Array, keep: Array, x: Array, scale: Any) -> None:
    dropout.dropout_mask(key, 3, 0, np.uint32(2**32 // 10), places, keep)
    dropout.apply_mask_in_place(x, keep, scale)


def torch_rows(
    torch: Any, x: Array, gamma: Array, beta: Array, h: Array, logits: Array, targets: Array
) -> dict[str, Call]:
    F = torch.nn.functional
    a, g, b, hidden, scores = (torch.from_numpy(v).clone() for v in (x, gamma, beta, h, logits))
    wanted, leaf = torch.from_numpy(targets), hidden.clone().requires_grad_()
    scored, outs = scores.clone().requires_grad_(), torch.ones_like(hidden)
    normed = a.clone().requires_grad_()
    result = F.layer_norm(normed, (WIDTH,), g, b)
    upstream = torch.ones_like(result)
    return {
        "LayerNorm": lambda: F.layer_norm(a, (WIDTH,), g, b),
        "LayerNorm, backward": lambda: torch.autograd.grad(result, normed, upstream, retain_graph=True),
        "GELU and its slope": lambda: torch.autograd.grad(F.gelu(leaf), leaf, outs),
        "cross-entropy and gradient": lambda: torch.autograd.grad(F.cross_entropy(scored, wanted), scored),
        "dropout, with its mask": lambda: F.dropout(a, 0.1),
        "residual sum": lambda: torch.add(a, a),
    }


def attentions(dtype: str, torch: Any) -> list[Case]:
    """Attention and its gradient."""
    number, shape = np.dtype(dtype).type, (ROWS, WIDTH)
    q, k, v, out, dout, dq, dk, dv = (drawn(dtype, *shape) for _ in range(8))
    size, blocks = attention.QUERY_BLOCK, attention.query_blocks(LENGTH)
    weights = aligned_zeros((BATCH, blocks, blocks * size, HEADS * size), dtype)
    starts, mask = np.arange(BATCH + 1) * LENGTH, np.ones(ROWS, np.bool_)
    scale = number(0.25)
    forward = backward = None
    if torch:
        heads = [
            torch.from_numpy(x).clone().view(BATCH, LENGTH, HEADS, -1).transpose(1, 2)
            for x in (q, k, v, dout)
        ]
        leaves, upstream = [x.clone().requires_grad_() for x in heads[:3]], heads[3]
        attend = torch.nn.functional.scaled_dot_product_attention
        attended = attend(*leaves, is_causal=True)

        def forward() -> Any:
            return attend(*heads[:3], is_causal=True)

        def backward() -> Any:
            return torch.autograd.grad(attended, leaves, upstream, retain_graph=True)

    return [
        Case(
            "attention",
            lambda: attention.attention(q, k, v, starts, mask, scale, out, weights),
            forward,
            4 * q.nbytes + weights.nbytes,
        ),
        Case(
            "attention, backward",
            lambda: attention.attention_backward(dout, q, k, v, starts, weights, scale, dq, dk, dv),
            backward,
            7 * q.nbytes + weights.nbytes,
        ),
    ]


def updates(dtype: str, torch: Any) -> list[Case]:
    """Clipping and AdamW over all parameters."""
    p, g, m, v = (drawn(dtype, PARAMETERS) for _ in range(4))
    v **= 2
    decayed = np.ones(PARAMETERS, np.bool_)
    scalars = adamw.Scalars(0.999, 1e-3, 0.9, 0.1, 0.95, 0.05, 1.1, 1.1, 1e-8, 1.0)

    def ours() -> None:
        clip = 1.0 / max(math.sqrt(reduce.sum_squares(g)), 1.0)
        adamw.adamw(p, g, m, v, decayed, scalars._replace(clip_factor=clip))

    peer = None
    if torch:
        leaf = torch.nn.Parameter(torch.from_numpy(p.copy()))
        leaf.grad = torch.from_numpy(g.copy())
        adam = torch.optim.AdamW([leaf], fused=True)

        def peer() -> None:
            torch.nn.utils.clip_grad_norm_([leaf], 1.0)
            adam.step()

    return [Case("clip and AdamW", ours, peer, 7 * p.nbytes)]


def per_call(call: Call, times: int) -> float:
    began = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - began) / times


def measure(case: Case, dtype: str) -> dict[str, Any]:
    """Rounds of seconds: ours, PyTorch's, of a copy of the same traffic; and FLOP/s in registers."""
    calls = {"ours": case.ours} | ({"torch": case.torch} if case.torch else {})
    for call in calls.values():
        call()
    times = {name: max(1, int(ROUND_SECONDS / per_call(call, 3))) for name, call in calls.items()}
    found: dict[str, Any] = {name: [] for name in (*calls, "copy", "peak")}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            found[name].append(per_call(call, times[name]))
        found["copy"].append(machine.copy_seconds(case.traffic))
        found["peak"].append(machine.peak(dtype))
    return {"name": case.name, "dtype": dtype, "traffic": case.traffic, "flops": case.flops} | found


def main() -> None:
    torch: Any = None
    if importlib.util.find_spec("torch"):
        import torch

        torch.set_num_threads(1)
    measured = []
    for dtype in ("float32", "float64"):
        for cases in (products, rows, attentions, updates):
            measured += [measure(case, dtype) for case in cases(dtype, torch)]
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(measured, indent=1), encoding="utf-8")
    for row in measured:
        print(row["dtype"], row["name"], f"{1e6 * sorted(row['ours'])[ROUNDS // 2]:.1f} us")


if __name__ == "__main__":
    main()
