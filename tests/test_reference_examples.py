"""The examples in the table of rules parse, and those that can be run are run.

An example that defines a function of the protocol takes the place of the reference subject's. One that defines a part
of a function (`masked_mean`) takes its place in copies of the oracles. One that fills a place in a loop (`loop.clip`)
stands in the PyTorch loop below. The properties of the rule must then hold for the right example, and refuse the wrong
one by that rule.
"""

import ast
import functools
import hashlib
import inspect
import itertools
import json
import math
import os
import re
import textwrap
import types
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis.errors import FlakyFailure
from safetensors.numpy import save_file
from scipy.special import erf
from torch import nn
from torch.utils.checkpoint import checkpoint

from fixtures.subjects import pytorch, torch_recomputation
from fixtures.subjects import reference as reference_subject
from fixtures.subjects.small_transformer import SmallTransformer
from honestloop.conventions import Conventions
from honestloop.protocol import FUNCTIONS, Subject
from properties.assertions import Refusal
from properties.checks import all_properties
from properties.property_record import Record, recording
from properties.strength import cases, profile
from reference import (
    activation,
    attention,
    bits_per_byte,
    centred_accuracy,
    checkpoint_choice,
    clipping,
    collate,
    data,
    decoding,
    dropout,
    flops,
    gradients,
    ignored_targets,
    loss,
    loss_scaling,
    masks,
    mixed_precision,
    model,
    ngram,
    normalisation,
    optimizer,
    perplexity,
    philox,
    progress_counters,
    recomputation,
    reduction,
    rotary,
    rounding,
    sampling,
    schedule,
    speed,
    tokenizer,
    training_loss,
    window_attention,
)
from reference.rules import RULES

HOLDS, REFUSES = 10, 60
"""Hypothesis examples for each property: of a right example, and at most of a wrong one."""
LONGEST, WIDEST = 6, 118
"""Lines of an example, and columns of a line."""
ORACLES = [
    *(
        philox,
        masks,
        loss,
        attention,
        normalisation,
        activation,
        rotary,
        dropout,
        optimizer,
        clipping,
        schedule,
    ),
    *(
        mixed_precision,
        loss_scaling,
        checkpoint_choice,
        data,
        collate,
        rounding,
        perplexity,
        tokenizer,
        ngram,
        training_loss,
        ignored_targets,
        reduction,
        window_attention,
        progress_counters,
        model,
        gradients,
        *(bits_per_byte, sampling, decoding, centred_accuracy, flops, speed),
        recomputation,
        reference_subject,
    ),
]
"""A module before those that import it."""
NAMES = {name: value for module in ORACLES[:-1] for name, value in vars(module).items() if name[0] != "_"}
"""What an example may use: NumPy and the oracles."""
NAMES |= {"np": np, "math": math, "itertools": itertools, "erf": erf}
NAMES |= {"hashlib": hashlib, "zlib": zlib, "os": os, "re": re, "Path": Path, "save_file": save_file}
NAMES |= {
    "objective": training_loss.training_loss,
    "counters_of_updates": progress_counters.progress_counters,
    "window_backward": window_attention.window_attention_backward,
    "masked_attention": lambda q, k, v, mask: (
        attention.masked_softmax(q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1]), mask) @ v
    ),
}
"""Oracles of functions that an example defines anew."""
IN_DOUBLE = {"training_loss", "ignoring_cross_entropy", "accumulated_loss"}
"""Functions whose oracles compute in float64; the reference subject casts what they return, and so is an example."""
RUN = [r.id for r in RULES.values() if r.function and not r.function.startswith("script.")]
"""Those of scripts that are killed are run by tests/test_gates_interruption.py."""
EVERY_CALL = {"SUBJ-05"}
"""Rules that are checked in every call: any property of the function may find them broken."""


def parse(text, language):
    """What the text says, without its comments. SyntaxError or ValueError if it is not in this language."""
    return ast.dump(ast.parse(text)) if language == "python" else json.loads(text)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_examples_parse_are_short_and_differ(rule):
    for text in (rule.wrong, rule.right):
        parse(text, rule.language)
        assert 1 <= len(text.splitlines()) <= LONGEST
        assert max(map(len, text.splitlines())) <= WIDEST
        assert text == text.strip()
    assert rule.language in ("python", "json")
    assert parse(rule.wrong, rule.language) != parse(rule.right, rule.language)  # more than a comment differs


def test_most_examples_are_run():
    assert len(RUN) >= 120


# --- functions ---


def copy_of(module, replaced):
    """The module, executed anew, with some of its names replaced."""
    copy = types.ModuleType(module.__name__)
    exec(inspect.getsource(module), vars(copy))
    vars(copy).update(replaced)
    return copy


def functions_with(part, written, conventions):
    """Functions of the reference subject with `written` in place of the oracles' `part`, wherever it is used."""
    changed = {part: written}
    modules: dict[types.ModuleType, types.ModuleType] = {}
    for module in ORACLES:
        names = vars(module)
        replaced = {name: changed[name] for name in names if name in changed}
        replaced |= {
            name: modules[x] for name, x in names.items() if isinstance(x, types.ModuleType) and x in modules
        }
        if replaced:
            modules[module] = copy = copy_of(module, replaced)
            own = {n: x for n, x in vars(copy).items() if getattr(x, "__module__", "") == module.__name__}
            changed = {n: x for n, x in own.items() if n[0] != "_"} | changed
    return modules[reference_subject].functions(conventions)


def silent(function):
    """The function without floating-point warnings."""

    def called(*args, **kwargs):
        with np.errstate(all="ignore"):
            return function(*args, **kwargs)

    return called


def function_subject(rule, text):
    """The reference subject with the example's function."""
    written = silent(defined(text, NAMES)[rule.function])
    if rule.function in IN_DOUBLE:
        written = reference_subject.in_dtype_of_arguments(written)
    half = "float16 bfloat16" if rule.family == "MIX" else "none"
    conventions = Conventions(generator="own" if "default_rng" in rule.right else "philox", half=half)
    if rule.function in FUNCTIONS and graded(rule):
        functions = reference_subject.functions(conventions) | {rule.function: written}
    else:
        functions = functions_with(rule.function, written, conventions)
    return Subject.of(rule.id, functions, conventions)


def iterator_subject(rule, text):
    """PyTorch's data iterator with the example's methods."""
    iterator = type("Iterator", (pytorch.DataIterator,), defined(text, {}))
    return Subject.of(rule.id, {"data_iterator": iterator}, Conventions(**pytorch.CONVENTIONS))


def forward_backward(loop, batch):
    """(mean loss, gradients by name) of one micro-batch, in training."""
    return loop.loss_and_gradients(batch, loop.masks(0))


def own_subject(rule, text):
    """The small transformer with the example's method."""
    methods = defined(text, NAMES | {"forward_backward": forward_backward})
    own = type("Own", (SmallTransformer,), methods)
    return Subject.of(rule.id, {"own_trainer": own}, Conventions())


def scaler_subject(rule, text):
    """The oracle of a scaler with the example's method."""
    made = type("Example", (loss_scaling.Scaler,), defined(text, NAMES))
    return Subject.of(rule.id, {"scaler": made}, Conventions())


def blocks_subject(rule, text):
    """PyTorch's blocks, one after the other as the example says."""
    forward = defined(text, {})["forward"]

    class Example(torch_recomputation.Blocks):
        def forward(self, x, recompute):
            blocks = [functools.partial(self.block, layer=layer) for layer in range(len(self.passes))]
            direct = lambda block, x: block(x)  # noqa: E731
            return forward(blocks, x, torch_recomputation.again if recompute else direct)

    function = functools.partial(torch_recomputation.gradients_of, pytorch, Example)
    return Subject.of(rule.id, {rule.function: function}, Conventions(**pytorch.CONVENTIONS))


def maker(rule):
    """What makes a subject of an example of this rule."""
    if rule.id == "RECOMP-01":
        return blocks_subject
    if rule.function.startswith("scaler."):
        return scaler_subject
    if rule.function.startswith("loop."):
        return loop_subject
    if rule.function.startswith("own."):
        return own_subject
    return iterator_subject if rule.function == "data_iterator" else function_subject


def defined(text, names):
    """What the text defines, where these names are known."""
    namespace = dict(names)
    exec(text, namespace)
    return {name: x for name, x in namespace.items() if name not in names and name != "__builtins__"} | {
        name: namespace[name] for name in names if namespace[name] is not names[name]
    }


# --- loops ---

LOOP = """
class Loop(pytorch.Trainer):
    def __init__(self, params, settings):
        super().__init__(params, settings)
        model, seed, self.updates = self.model, settings["seed"], 0
        peak, weight_decay, eps = settings["peak"], settings["weight_decay"], settings["eps"]
        betas = settings["beta1"], settings["beta2"]
        $optimizer
        $generator
        self.rng, self.optimizer = rng.get_state(), optimizer
        self.scheduler = pytorch.scheduler(optimizer, settings["floor"], settings["warmup"], settings["total"])
        $layer

    $train

    def update(self, window):
        model, optimizer, scheduler = self.model, self.optimizer, self.scheduler
        max_norm, seed = self.settings["max_norm"], self.settings["seed"] % 2**32
        window = [tuple(map(pytorch.tensor, batch)) for batch in window]
        record = {"loss": 0.0, "lr": optimizer.param_groups[0]["lr"]}
        $tokens
        record["tokens"], tokens = tokens, max(tokens, 1)
        $gradient
        $apply
        self.updates += 1
        return record | {"grad_norm": norm.item()}

    $evaluate

    def score(self, batches):
        model, batches = self.model, [tuple(map(pytorch.tensor, batch)) for batch in batches]
        $score

    def state(self):
        machines = {"model": self.model, "optimizer": self.optimizer, "scheduler": self.scheduler}
        return {name: x.state_dict() for name, x in machines.items()} | {"rng": self.rng}

    $save

    $load

    $parameters
"""
"""A PyTorch loop with places for examples, which else hold what PLACES says."""
TRAIN = """
def train(self, micro_batches, accumulate):
    log, window = [], []
    with own_stream(self.rng):
        $windows
        self.rng = torch.get_rng_state()
    return log
"""
LOAD = """
def load(self, path):
    state = torch.load(path, weights_only=True)
    self.rng = state.pop("rng", self.rng)
    for name, machine in state.items():
        getattr(self, name).load_state_dict(machine)
"""
PLACES = {
    "optimizer": RULES["LOOP-08"].right,
    "generator": 'rng = pytorch.generator(seed, "control")',
    "layer": "",
    "train": TRAIN,
    "windows": RULES["LOOP-01"].right,
    "tokens": RULES["LOOP-10"].right,
    "gradient": "$backward\n$clip",
    "backward": RULES["LOOP-09"].right,
    "clip": RULES["LOOP-03"].right,
    "apply": "$check\n$step",
    "check": "if not (math.isfinite(record['loss']) and norm.isfinite()): raise FloatingPointError(record)",
    "step": RULES["LOOP-07"].right,
    "evaluate": RULES["EVAL-02"].right,
    "score": RULES["EVAL-01"].right,
    "save": "def save(self, path): torch.save(self.state(), path)",
    "load": LOAD,
    "parameters": RULES["LOOP-13"].right,
}
FUNCTIONS_BESIDE = {"loss_sum", "dropout"}
"""Places that are functions beside the class."""


def loss_sum(model, batch):
    """Summed loss of a micro-batch of tensors."""
    tokens, targets, mask = batch
    return F.cross_entropy(model(tokens)[mask], targets[mask], reduction="sum")


def token_mean(model, batch):
    """Mean loss over the predicted tokens of one micro-batch."""
    return loss_sum(model, batch) / batch[2].sum().clamp(min=1)


def windows(micro_batches, accumulate):
    """The micro-batches of each update."""
    return [micro_batches[i : i + accumulate] for i in range(0, len(micro_batches), accumulate)]


class Layer(nn.Module):
    """A function of activations and a probability, applied in training."""

    def __init__(self, function, p):
        super().__init__()
        self.function, self.p = function, p

    def forward(self, x):
        return self.function(x, self.p) if self.training and self.p else x


def filled(text, places):
    """The text with every line "$place" replaced by what stands there, as far to the right."""
    return re.sub(
        r"(?m)^( *)\$(\w+)$", lambda m: textwrap.indent(filled(places[m[2]].strip(), places), m[1]), text
    )


def loop_subject(rule, text):
    """The PyTorch loop with the example in its place."""
    place = rule.function.removeprefix("loop.")
    names = {
        "np": np,
        "math": math,
        "torch": torch,
        "nn": nn,
        "F": F,
        "checkpoint": checkpoint,
        "pytorch": pytorch,
    }
    names |= {x.__name__: x for x in (loss_sum, token_mean, windows, Layer, pytorch.own_stream)}
    if place in FUNCTIONS_BESIDE:
        names |= defined(text, names)
        layer = 'model.dropout = Layer(dropout, settings["dropout"])' if place == "dropout" else ""
        source = filled(LOOP, PLACES | {"layer": layer})
    else:
        assert place in PLACES
        source = filled(LOOP, PLACES | {place: text})
    loop = defined(source, names)["Loop"]
    return Subject.of(rule.id, {"trainer": loop}, Conventions(**pytorch.CONVENTIONS))


# --- the verdict ---


def graded(rule):
    """Whether a property of this rule calls the function itself."""
    return rule.id in EVERY_CALL or any(
        rule.function in prop.functions or rule.function in {case.get("name") for case in prop.cases()}
        for prop in all_properties().values()
        if rule.id in prop.rules
    )


def verdict(rule, subject, examples_each):
    """The rule by which the properties refuse the subject, or "" if they hold, and how many examples were asserted."""
    place = rule.function.split(".")[0]
    function = {"loop": "trainer", "own": "own_trainer"}.get(place, rule.function)
    function = function if function in FUNCTIONS and graded(rule) else None
    examples = 0
    for prop in all_properties().values():
        if rule.id not in {*prop.rules, *EVERY_CALL}:
            continue
        for case in cases(prop, function):
            try:
                with recording(Record(examples_each)) as record:
                    prop.runnable(profile(examples_each, shrink=False))(subject=subject, **case)
            except Refusal as refusal:
                return refusal.rule, examples
            except FlakyFailure as error:  # the example draws, or counts its calls
                return next(e.rule for e in error.exceptions if isinstance(e, Refusal)), examples
            examples += record.executed.total()
    return "", examples


@pytest.mark.parametrize("rule", [RULES[name] for name in RUN], ids=RUN)
def test_the_right_example_holds_and_the_rule_refuses_the_wrong_one(rule):
    make = maker(rule)
    refused_by, examples = verdict(rule, make(rule, rule.right), HOLDS)
    assert refused_by == ""
    assert examples > 0
    assert verdict(rule, make(rule, rule.wrong), REFUSES)[0] == rule.id
