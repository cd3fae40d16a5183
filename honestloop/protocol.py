"""The functional protocol: the small functions a subject offers to the properties, and how they are found.

NumPy in, NumPy out. Float results have the dtype of the float arguments (float32 or float64), and no argument is
changed. A subject is a module (NAME means NAME.adapter if there is one, else NAME itself), a mapping of names to
functions, or any object that has them. It may declare `CAPABILITIES`, the names of the functions it offers (without it,
every function that is not optional must be there), `CONVENTIONS`, its choice where more than one is right
(conventions.py), `TRAINER_PARTS`, what its trainer has, and `EXPECTED`, the rules that it does not keep, each with
the reason.

What a whole training run must offer to the gates, the verbs of its command line and the files of its run directory, is
in docs/levels.md.
"""

import functools
import importlib
import importlib.util
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from honestloop import guard
from honestloop.conventions import ConventionError, Conventions, declared
from reference.rules import RULES

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
    "clip_by_global_norm": "(grads: iterable, max_norm) -> (list, norm: float)",
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
    "accumulate) or fit(micro_batches, epochs, accumulate, resume), parameters(), and, unless TRAINER_PARTS says "
    "otherwise, evaluate(batches), save(path), load(path); see docs/trainer.md",
    "own_trainer": "(settings: dict) -> object with train(batches, accumulate), loss(batch), parameters(), "
    "set_parameters(dict), and vocab or batch(rows): a loop of its own model; see docs/own-model.md",
    "collate": "(examples: list of (prompt ids, completion ids), pad_id) -> (input, target, loss_mask, key_mask)",
    "worker_stream": "(seed, epoch, worker, n) -> n random numbers [n], of 24 bits or more each",
    "split_of": '(text: str) -> "train", "val" or "test"',
    "save_checkpoint": "(folder: str, step) -> path of a complete checkpoint of that update, as the loop leaves it; "
    "with it latest_checkpoint is graded",
    "latest_checkpoint": "(folder: str) -> path of the newest complete checkpoint, None if there is none",
    "export": "(params: dict of name to array, path: str): writes a safetensors file; one array may have several names",
    "mixed_adamw_step": "(tensors: list of dict of p, g, m, v and master if one is kept, dtypes: list[str], *, t, lr, "
    "beta1, beta2, eps, weight_decay) -> list of dict without g; float16 and bfloat16 travel as float32 arrays",
    "mixed_clip_by_global_norm": "(grads: list, dtypes: list[str], max_norm) -> (list, norm: float)",
    "mixed_cross_entropy": "(logits [B,T,V], targets [B,T], loss_mask [B,T] bool, dtype: str) -> (loss: float, "
    "dlogits [B,T,V])",
    "outlier_detector": "(window, threshold) -> object with update(loss) -> bool, state() (JSON) and restore(state)",
    "rate_by_progress": "(progress, *, peak, floor, warmup, warmdown) -> float; warmup, warmdown: shares of the run",
    "time_budget": "(seconds, excluded) -> object with add(seconds of an update), progress, spent, state() (JSON) and "
    "restore(state)",
    "scaled_settings": "(tokens, *, reference_tokens, reference_batch, lr, weight_decay) -> dict of batch, lr and "
    "weight_decay",
    "token_bytes": "(vocabulary: list[bytes], special: list of ids) -> list of the number of bytes of each token",
    "bits_per_byte": "(batches: list of (nll [B,T] in nats, targets [B,T], below 0 ignored), token_bytes [V], "
    "budget: tokens or None) -> float",
    "token_probabilities": "(logits [V], *, temperature, top_k, top_p, min_p) -> p [V]; 0, 1, 0 turn filters off",
    "sample_token": "(logits [V], n, seed, *, temperature, top_k, top_p, min_p) -> n ids [n], drawn independently",
    "generate": "(params, prompt: list of ids, count, config) -> (ids [count], logits [count,V] that each was chosen "
    "by), greedily, without dropout",
    "centered_accuracy": "(tasks: list of (right: list[bool], baseline in percent)) -> (list of float, their mean)",
    "choose_option": "(losses: list of the nats of each option's tokens, normalise: bool) -> index",
    "few_shot": "(n, item, shots, seed) -> list of the numbers of other items",
    "flops_per_token": "(config: dict) -> int; config['windows'], if it is there, has the keys each layer sees",
    "mfu": "(flops, tokens, seconds, peak, devices) -> percent, None if peak is None",
    "tokens_per_second": "(steps: list of (began, ended, tokens), *, excluded, done, total) -> (tokens a second, "
    "seconds left), None both without a timed step",
    "cost": "(seconds: list, one a process, *, price, devices) -> float; price of a device's hour",
    "step_profile": "(spans: list of (phase, thread, began, ended), began, ended) -> dict of phase, and idle, to "
    "share; thread 0 trains",
    "scaler": "(params: list of arrays, settings: dict) -> object with scale() -> float, step(gradients of scale() "
    "times the loss) -> dict of skipped, grad_norm and lr, parameters() -> list, state() -> dict of scale, "
    "growth_tracker and all else, restore(state)",
    "recomputed_gradients": "(params, input, target, loss_mask, key_mask, config, recompute: bool, p, seed, step) -> "
    "(loss, dict, list: how often each block's forward pass was computed); with dropout of rate p",
    "round_float8": '(x, "float8_e4m3fn" | "float8_e5m2") -> x rounded to nearest even, in the dtype of x',
    "round_stochastically": "(x, seed, step) -> x rounded to bfloat16 at random, in the dtype of x",
    "autocast_matmul": '(a [M,K], b [K,N], "float16" | "bfloat16") -> [M,N]; all float32',
    "autocast_matmul_backward": "(a, b, form, dout [M,N]) -> (da, db)",
    "tracker": "(settings: dict of mode, patience, min_delta) -> object with update(value, step) -> bool, best, "
    "best_step, stop, state() (JSON) and restore(state)",
    "schedule_of_events": "(settings: dict of steps, epochs, batches, accumulate, eval_every, sample_every, "
    'save_every, start) -> list of (updates done, "train" | "evaluate" | "sample" | "save"), in order',
    "weight_average": "(decay) -> object with update(params: dict of name to array), parameters() -> dict, state(), "
    "restore(state)",
    "loss_average": "(decay) -> object with update(value) -> float, state() (JSON) and restore(state)",
    "training_loss": "(logits [B,T,V], targets [B,T], loss_mask [B,T] bool, *, label_smoothing, z_loss, softcap) -> "
    "(objective: float, cross_entropy: float, dlogits [B,T,V] of the objective); softcap 0 is none",
    "softcap": "(x [...], cap, scale) -> cap tanh(scale x / cap)",
    "softcap_backward": "(x [...], cap, scale, dy) -> dx",
    "ignoring_cross_entropy": "(logits [B,T,V], targets [B,T], ignore_index) -> (loss: float, dlogits [B,T,V])",
    "accumulated_loss": "(losses: list of [B,T], masks: list of [B,T] bool): the micro-batches of an update -> "
    "(loss: float, the weight of each token in it: list of [B,T])",
    "window_attention": "(q, k, v [B,H,T,K], key_mask [B,T] bool, window: int) -> out",
    "window_attention_backward": "(q, k, v, key_mask, window, dout) -> (dq, dk, dv)",
    "progress_counters": "(epochs: list of list of int, the predicted tokens of each micro-batch, accumulate) -> "
    "list of (step, tokens, epoch: float), one an update",
    "train_step": "(params, config) -> step(input, target, loss_mask, key_mask) -> loss; keeps its state; not graded",
}
OPTIONAL = frozenset(
    {"softmax", "rms_norm", "silu", "sample_batch", "tokenizer", "ngram_baselines", "train_step"}
    | {
        "own_trainer",
        "collate",
        "worker_stream",
        "split_of",
        "save_checkpoint",
        "latest_checkpoint",
        "export",
        "mixed_adamw_step",
        "mixed_clip_by_global_norm",
        "mixed_cross_entropy",
        "scaler",
        "recomputed_gradients",
        "round_float8",
        "round_stochastically",
        "autocast_matmul",
        "autocast_matmul_backward",
    }
    | {"token_bytes", "bits_per_byte", "token_probabilities", "sample_token", "generate", "centered_accuracy"}
    | {"choose_option", "few_shot", "flops_per_token", "mfu", "tokens_per_second", "cost", "step_profile"}
    | {"tracker", "schedule_of_events", "weight_average", "loss_average", "outlier_detector"}
    | {"rate_by_progress", "time_budget", "scaled_settings"}
    | {"training_loss", "softcap", "softcap_backward", "ignoring_cross_entropy", "accumulated_loss"}
    | {"window_attention", "window_attention_backward", "progress_counters"}
)
"""Graded if offered."""
TRAINER_PARTS = {
    "grad_norm": "in each record: the norm of the window's gradient before clipping",
    "tokens": "in each record: the number of predicted tokens of the window",
    "evaluate": "evaluate(batches) -> the token mean over all of them, without dropout",
    "save": "save(path): a checkpoint, a file or a folder",
    "load": "load(path): go on from a checkpoint, in a trainer of the same settings",
    "observed": "observed() -> dict of whatever else the loop keeps: numbers, text, arrays, lists and dicts of them",
}
"""What a trainer may have beside train (or fit), parameters, and the loss and lr of each record. A subject without all
of the first five names those that are there in its TRAINER_PARTS; `observed` is there only if it is named."""
USUAL_PARTS = frozenset(TRAINER_PARTS) - {"observed"}
BATCH_FIELDS = ("input", "target", "loss_mask", "key_mask")


class ProtocolError(Exception):
    """A subject cannot be imported, lacks a function or declares what does not exist; one line that says which."""


class Subject:
    """What is graded: functions that are looked up when they are used, and guarded when they are called."""

    def __init__(
        self,
        source: Any,
        *,
        name: str | None = None,
        conventions: Conventions | None = None,
        time_limit: float = guard.TIME_LIMIT,
        ends_process: bool = False,
    ) -> None:
        """`source` is the name of a module, a module, a mapping of names to functions, or any object that has them.

        `conventions` replace those that the source declares. `time_limit`: seconds a call may take. `ends_process`:
        whether a call that cannot be interrupted may end this process.
        """
        self.name = name or name_of(source)
        self.guard = guard.Guard(time_limit, ends_process)
        self._source = source
        self._conventions = conventions

    @classmethod
    def of(
        cls, name: str, functions: Mapping[str, Callable[..., Any]], conventions: Conventions
    ) -> "Subject":
        """A subject of these functions."""
        return cls(functions, name=name, conventions=conventions)

    @property
    def module(self) -> str | None:
        """Name of the module that it is; None if it is not one."""
        return self.name if self._is_module else None

    def __repr__(self) -> str:
        return f"Subject({self.name!r})"

    def __getattr__(self, function: str) -> Any:
        if function not in FUNCTIONS:
            raise AttributeError(f"{function} is not a function of the protocol")
        return self.find(function)

    @functools.cached_property
    def conventions(self) -> Conventions:
        """What the subject declares in CONVENTIONS. ProtocolError if that is none of the legal values."""
        if self._conventions is not None:
            return self._conventions
        try:
            return declared(self._look_up("CONVENTIONS", {}))
        except ConventionError as error:
            raise ProtocolError(f"subject {self.name}: {error}") from error

    @functools.cached_property
    def expected(self) -> dict[str, str]:
        """Rule -> reason, of the rules that the subject declares in EXPECTED not to keep.

        ProtocolError unless each key is a rule and each value a sentence.
        """
        said = self._look_up("EXPECTED", {})
        try:
            return expected_failures(said)
        except ValueError as error:
            raise ProtocolError(f"subject {self.name}: {error}") from None

    @functools.cached_property
    def offered(self) -> frozenset[str]:
        """The functions to grade: those declared in CAPABILITIES; else of a module every required one and the optional
        ones that are there, of anything else those that are there."""
        capabilities: Iterable[str] | None = self._look_up("CAPABILITIES", None)
        if capabilities is None:
            required = FUNCTIONS.keys() - OPTIONAL if self._is_module else frozenset()
            return frozenset(f for f in FUNCTIONS if f in required or self._look_up(f, None) is not None)
        names = frozenset([capabilities] if isinstance(capabilities, str) else capabilities)
        if unknown := names - FUNCTIONS.keys():
            raise ProtocolError(
                f"subject {self.name}: CAPABILITIES names {sorted(unknown)}, unknown to the protocol"
            )
        return names

    @functools.cached_property
    def trainer_parts(self) -> frozenset[str]:
        """The parts of its trainer that are graded. ProtocolError if it names one that the protocol does not know."""
        parts: Iterable[str] | None = self._look_up("TRAINER_PARTS", None)
        if parts is None:
            return USUAL_PARTS
        names = frozenset([parts] if isinstance(parts, str) else parts)
        if unknown := names - TRAINER_PARTS.keys():
            raise ProtocolError(
                f"subject {self.name}: TRAINER_PARTS names {sorted(unknown)}; there are {', '.join(TRAINER_PARTS)}"
            )
        return names

    def find(self, function: str) -> Any:
        """The function of that name, guarded. ProtocolError if there is none."""
        return self.guard.function(function, self.raw(function))

    def raw(self, function: str) -> Callable[..., Any]:
        """The function of that name as the source has it. ProtocolError if there is none."""
        found = self._look_up(function, None)
        if not callable(found):
            where = self._resolved.__name__ if self._is_module else self.name
            raise ProtocolError(
                f"subject {self.name}: {where} has no function {function}{FUNCTIONS.get(function, '')}"
            )
        return cast(Callable[..., Any], found)

    @property
    def _resolved(self) -> Any:
        """The source, imported if it was named. ProtocolError if it cannot be."""
        return find_module(self._source) if isinstance(self._source, str) else self._source

    @property
    def _is_module(self) -> bool:
        return isinstance(self._source, (str, ModuleType))

    def _look_up(self, name: str, otherwise: Any) -> Any:
        source = self._resolved
        return (
            source.get(name, otherwise) if isinstance(source, Mapping) else getattr(source, name, otherwise)
        )


def name_of(source: Any) -> str:
    """What messages call a subject."""
    if isinstance(source, str):
        return source
    return str(getattr(source, "__name__", None) or type(source).__name__)


def expected_failures(said: Any) -> dict[str, str]:
    """EXPECTED, checked: a dict of rule id to the reason why the rule is not kept. ValueError for anything else."""
    if not isinstance(said, Mapping):
        raise ValueError(f"EXPECTED is of type {type(said).__name__}, not a dict of rule to reason")
    for rule, reason in said.items():
        if rule not in RULES:
            raise ValueError(f"EXPECTED names {rule!r}, which is no rule")
        if not isinstance(reason, str) or not reason.strip():
            raise ValueError(f"EXPECTED[{rule!r}] needs a reason, a sentence that says why")
    return {rule: " ".join(reason.split()) for rule, reason in said.items()}


@functools.cache
def find_module(name: str) -> ModuleType:
    """The module that `name` means: NAME.adapter if there is one, else NAME. ProtocolError if it cannot be imported."""
    try:
        module = importlib.import_module(name)
        if hasattr(module, "__path__") and importlib.util.find_spec(f"{name}.adapter"):
            return importlib.import_module(f"{name}.adapter")
        return module
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever a stranger's module raises on import, sys.exit() included
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ProtocolError(f"subject {name}: cannot be imported: {reason}{place_of(error)}") from error


def place_of(error: BaseException) -> str:
    """Where in somebody's module an import failed, in brackets; nothing where no line of it had begun."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<frozen")]
    outside = [f for f in frames if f.filename not in (__file__, importlib.__file__)]
    return f" ({Path(outside[-1].filename).name}:{outside[-1].lineno})" if outside else ""


def fields(batch: Any) -> tuple[Any, Any, Any, Any]:
    """(input, target, loss_mask, key_mask) of a batch in either form: a tuple, or an object with these attributes."""
    if isinstance(batch, tuple):
        a, b, c, d = batch
    else:
        a, b, c, d = (getattr(batch, field) for field in BATCH_FIELDS)
    return a, b, c, d
