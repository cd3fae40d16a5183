"""The functional protocol: the small functions a subject offers to the properties, and how they are found.

NumPy in, NumPy out. Float results have the dtype of the float arguments (float32 or float64), and no argument is
changed. `--impl NAME` means the module NAME.adapter if there is one, else NAME itself. A module may declare
`CAPABILITIES`, the names of the functions it offers (without it, every function that is not optional must be there),
and `CONVENTIONS`, its choice where more than one is right (honestloop/conventions.py).
"""

import functools
import importlib
import importlib.util
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any

from honestloop import guard
from honestloop.conventions import ConventionError, Conventions, declared

FUNCTIONS = {
    "matmul": "(a [M,K], b [K,N]) -> [M,N]",
    "softmax": "(x [...,V]) -> y, over the last axis",
    "cross_entropy": "(logits [B,T,V], targets [B,T], loss_mask [B,T] bool) -> (loss: float, dlogits [B,T,V])",
    "layer_norm": "(x [...,D], gamma [D], beta [D], eps) -> y",
    "layer_norm_backward": "(x [...,D], gamma [D], eps, dy) -> (dx, dgamma, dbeta)",
    "rms_norm": "(x [...,D], gamma [D], eps) -> y",
    "gelu": "(x) -> y",
    "gelu_backward": "(x, dy) -> dx",
    "silu": "(x) -> y",
    "rope": "(x [B,H,T,K], base) -> y",
    "rope_backward": "(dy [B,H,T,K], base) -> dx",
    "attention": "(q, k, v [B,H,T,K], key_mask [B,T] bool) -> out",
    "attention_backward": "(q, k, v, key_mask, dout) -> (dq, dk, dv)",
    "dropout": "(x [B,T,D], p, seed, step, site, context) -> y",
    "adamw_step": "(p, g, m, v, *, t, lr, beta1, beta2, eps, weight_decay) -> (p, m, v); t from 1",
    "clip_by_global_norm": "(grads: list, max_norm) -> (list, norm: float)",
    "learning_rate": "(step, *, peak, floor, warmup, total) -> float; step from 0",
    "decays": "(names: list[str]) -> list[bool]",
    "initial_parameters": "(seed, config: dict) -> dict of name to array",
    "forward": "(params: dict, tokens [B,T], key_mask [B,T], config: dict) -> logits [B,T,V], without dropout",
    "loss_and_gradients": "(params, input, target, loss_mask, key_mask, config) -> (loss, dict), without dropout",
    "make_batch": "(sequences: list[list[int]]) -> (input, target, loss_mask, key_mask)",
    "sample_batch": "(tokens [N], batch_size, context, seed) -> (input [B,C], target [B,C])",
    "epoch_order": "(n, seed, epoch) -> int64 [n]",
    "perplexity": "(nll_sum, tokens) -> float",
    "round_weights": '(x, "float16" | "bfloat16") -> x rounded to nearest even, in the dtype of x',
    "data_iterator": "(sequences, batch_size, seed) -> object with next_batch(), state() (JSON), restore(state) and "
    "epoch (of the last batch given out); a batch is a tuple or has attributes named as make_batch's results",
    "tokenizer": "(texts: list[str]) -> object with vocabulary (texts by id), encode(text) -> ids, decode(ids) -> text",
    "ngram_baselines": "(train, val: list[list[int]], vocab_size) -> list of dict: kind, n, parameter, nll_sum, tokens",
    "trainer": "(params: dict of E [V,D], W [D,V], b [V], settings: dict) -> object with train(micro_batches, "
    "accumulate), parameters(), evaluate(batches), save(path), load(path); see docs/your-loop.md",
    "train_step": "(params, config) -> step(input, target, loss_mask, key_mask) -> loss; keeps its state; not graded",
}
OPTIONAL = frozenset(
    {"softmax", "rms_norm", "silu", "sample_batch", "tokenizer", "ngram_baselines", "train_step"}
)
"""Graded if offered."""
BATCH_FIELDS = ("input", "target", "loss_mask", "key_mask")


class ProtocolError(Exception):
    """A subject cannot be imported or lacks a function; one line that says which."""


class Subject:
    """What is graded: functions that are looked up when they are used, and guarded when they are called.

    Made from a module's name, or from functions by name (`Subject.of`).
    """

    def __init__(self, name: str, time_limit: float = guard.TIME_LIMIT) -> None:
        self.name = name
        self.guard = guard.Guard(time_limit)
        self._functions: Mapping[str, Callable[..., Any]] | None = None

    @classmethod
    def of(
        cls, name: str, functions: Mapping[str, Callable[..., Any]], conventions: Conventions
    ) -> "Subject":
        """A subject of these functions."""
        subject = cls(name)
        subject._functions = functions
        subject.__dict__["conventions"] = conventions
        return subject

    def __repr__(self) -> str:
        return f"Subject({self.name!r})"

    def __getattr__(self, function: str) -> Any:
        if function not in FUNCTIONS:
            raise AttributeError(f"{function} is not a function of the protocol")
        return self.find(function)

    @functools.cached_property
    def conventions(self) -> Conventions:
        """What the module declares. ProtocolError if that is none of the legal values."""
        try:
            return declared(find_module(self.name))
        except ConventionError as error:
            raise ProtocolError(f"subject {self.name}: {error}") from error

    @functools.cached_property
    def offered(self) -> frozenset[str]:
        """The functions to grade: those declared, else every required one and the optional ones that are there."""
        if self._functions is not None:
            return frozenset(self._functions)
        module = find_module(self.name)
        capabilities: Iterable[str] | None = getattr(module, "CAPABILITIES", None)
        if capabilities is None:
            return frozenset(f for f in FUNCTIONS if f not in OPTIONAL or hasattr(module, f))
        names = frozenset([capabilities] if isinstance(capabilities, str) else capabilities)
        if unknown := names - FUNCTIONS.keys():
            raise ProtocolError(
                f"subject {self.name}: CAPABILITIES names {sorted(unknown)}, unknown to the protocol"
            )
        return names

    def find(self, function: str) -> Any:
        """The function of that name, guarded. ProtocolError if there is none."""
        return self.guard.function(function, self.raw(function))

    def raw(self, function: str) -> Callable[..., Any]:
        """The function of that name as the module has it. ProtocolError if there is none."""
        if self._functions is not None:
            found, where = self._functions.get(function), self.name
        else:
            module = find_module(self.name)
            found, where = getattr(module, function, None), module.__name__
        if not callable(found):
            raise ProtocolError(
                f"subject {self.name}: {where} has no function {function}{FUNCTIONS.get(function, '')}"
            )
        return found


@functools.cache
def find_module(name: str) -> ModuleType:
    """The module that `--impl name` means. ProtocolError if it cannot be imported."""
    try:
        module = importlib.import_module(name)
        if hasattr(module, "__path__") and importlib.util.find_spec(f"{name}.adapter"):
            return importlib.import_module(f"{name}.adapter")
        return module
    except Exception as error:  # whatever a stranger's module raises on import
        reason = " ".join(str(error).split())
        raise ProtocolError(
            f"subject {name}: cannot be imported: {type(error).__name__}: {reason}"
        ) from error


def fields(batch: Any) -> tuple[Any, Any, Any, Any]:
    """(input, target, loss_mask, key_mask) of a batch in either form."""
    if isinstance(batch, tuple):
        a, b, c, d = batch
    else:
        a, b, c, d = (getattr(batch, field) for field in BATCH_FIELDS)
    return a, b, c, d
