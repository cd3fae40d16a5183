"""Why a kind of input is not given to a function; every other kind of `inputs_given.KINDS` is, which a test measures.

`python -m properties.coverage_of_inputs` prints the table: a line for each function, a mark for each kind.
"""

import re
from collections.abc import Iterator

from honestloop.protocol import FUNCTIONS
from properties import inputs_given
from properties.inputs_given import INTEGERS, KINDS, LARGER, LAYOUTS, SEEDS, SIZES

NOT_GRADED = frozenset({"train_step"})
"""Functions without a property."""
ARGUMENTS = {
    name: tuple(
        word
        for word in re.findall(r"\b[a-z_]+\b(?=[ ,):]|$)", signature.split("->")[0].strip("() "))
        if word not in ("bool", "dict", "iterable")
    )
    for name, signature in FUNCTIONS.items()
    if name not in NOT_GRADED
}
"""Function -> names of its positional arguments; loops and the parts around them among them."""
MEMBERS = {
    "trainer": ("train", "evaluate", "parameters", "save", "load", "observed"),
    "own_trainer": tuple(
        "train loss evaluate logits gradients moments parameters set_parameters save load".split()
    ),
}
"""The methods of a loop, each of which has a row."""
ROWS = (*ARGUMENTS, *(f"{loop}.{name}" for loop, names in MEMBERS.items() for name in names))
"""Every row of the table."""

ALL = frozenset(ROWS)
ASKED = frozenset(f"{loop}.{name}" for loop in MEMBERS for name in ("parameters", "save", "load"))
ASKED |= {"trainer.observed", "own_trainer.moments"}
"""Methods that take nothing, or a path."""
OF_BATCHES = frozenset({"trainer.train", "trainer.evaluate", "own_trainer.train", "own_trainer.loss"})
OF_BATCHES |= {"own_trainer.evaluate", "own_trainer.logits", "own_trainer.gradients"}
MIXED = frozenset(name for name in ARGUMENTS if name.startswith("mixed_"))
PRODUCTS = frozenset({"autocast_matmul", "autocast_matmul_backward"})
SIXTEEN = PRODUCTS | {"round_stochastically", "recomputed_gradients", "scaler"}
"""Functions of the precision of a run that take float arrays."""
FILES = frozenset({"split_of", "save_checkpoint", "latest_checkpoint"})
NUMBERS = frozenset({"perplexity", "learning_rate", "momentum_at", "weight_decay_at"})
MUON = frozenset({"orthogonalize", "orthogonalize_heads", "muon_step"})
LISTS = frozenset({"decays", "make_batch", "data_iterator", "tokenizer", "ngram_baselines"}) | FILES
CONTROL = frozenset({"tracker", "schedule_of_events", "weight_average", "loss_average", "outlier_detector"})
CONTROL |= {"rate_by_progress", "time_budget", "scaled_settings"}
"""What steers a run: objects that take settings and then numbers, or arrays of any shape, through their methods."""
LISTS |= {"collate", "worker_stream", "progress_counters"} | ASKED | CONTROL
DRAWN = frozenset({"epoch_order", "initial_parameters"})
IDS = frozenset({"cross_entropy", "forward", "loss_and_gradients", "sample_batch", "mixed_cross_entropy"})
IDS |= OF_BATCHES | {"training_loss", "ignoring_cross_entropy"}
MODEL = frozenset({"forward", "loss_and_gradients"})
MASKED = frozenset({"cross_entropy", "attention", "attention_backward", "mixed_cross_entropy"}) | MODEL
MASKED |= {"training_loss", "accumulated_loss", "window_attention", "window_attention_backward"}
MASKED |= {"trainer.train", "trainer.evaluate", "own_trainer.train", "own_trainer.loss"}
SEEDED = frozenset({"dropout", "sample_batch", "data_iterator", "worker_stream", "trainer"}) | DRAWN
SEEDED |= {"own_trainer"}
CAPPED = frozenset({"softcap", "softcap_backward"})
WINDOWED = frozenset({"window_attention", "window_attention_backward"})
OBJECTIVE = CAPPED | WINDOWED | {"training_loss", "ignoring_cross_entropy", "accumulated_loss"}
"""What an update minimises, and attention in a window."""
COUNTED = frozenset(
    {
        "progress_counters",
        "adamw_step",
        "learning_rate",
        "perplexity",
        "dropout",
        "epoch_order",
        "clip_by_global_norm",
    }
)
OF_REPORTS = frozenset(
    {"token_bytes", "centered_accuracy", "choose_option", "few_shot", "flops_per_token", "mfu"}
    | {"tokens_per_second", "cost", "step_profile"}
)
"""Functions of numbers, texts and lists of them."""
OF_SAMPLES = frozenset({"bits_per_byte", "token_probabilities", "sample_token", "generate"})
FLOATS = ALL - NUMBERS - LISTS - DRAWN - OF_BATCHES - {"sample_batch", "own_trainer"}
LARGE = tuple(LARGER.values())

NO_ARRAY = "it takes no array"
REASONS: tuple[tuple[frozenset[str], tuple[str, ...], str], ...] = (
    (OF_REPORTS, KINDS, "it takes numbers and lists of them; no array"),
    (
        OF_SAMPLES,
        KINDS,
        "it is given what its rules speak of; the layers whose results it takes are given these kinds",
    ),
    (NUMBERS | LISTS | DRAWN, LAYOUTS, NO_ARRAY),
    (frozenset(ALL - IDS), INTEGERS, "it takes no array of integers"),
    (frozenset({"sample_batch"}), ("broadcast",), "a text of one repeated token has no place to tell"),
    (frozenset(ALL - SEEDED), SEEDS, "it takes no seed"),
    (frozenset(ALL - FLOATS), ("float32 and float64", "beyond 1e30"), "it takes no float array"),
    (frozenset(ALL - MASKED), ("all masked",), "it takes no mask"),
    (
        frozenset(ALL - {"clip_by_global_norm"}),
        ("read once",),
        "no library hands this argument over as an iterator",
    ),
    (
        frozenset(ALL - {"clip_by_global_norm"}),
        ("infinity",),
        "an infinite argument has no finite result to compare",
    ),
    (
        frozenset(ALL - COUNTED),
        ("a count beyond 2^16", "a count beyond 2^24"),
        "it takes no count, or one that is the size of its result",
    ),
    (
        frozenset({"learning_rate"}),
        ("a count beyond 2^24",),
        "a schedule that only steps forward, as PyTorch's do, would take minutes",
    ),
    (frozenset({"clip_by_global_norm"}), ("a count beyond 2^16", "a count beyond 2^24"), "it takes no count"),
    (NUMBERS | DRAWN, ("size 0", "size 1", *LARGE), "it takes nothing that has a size"),
    (MODEL, ("size 0", *LARGE), "its layers are given these sizes one by one"),
    (frozenset({"decays"}), ("size 0", *LARGE), "its names are those of a model of any number of layers"),
    (
        frozenset({"tokenizer"}),
        ("size 0", "size 1", *LARGE),
        "the law gives 64 tokens, from texts that fill them",
    ),
    (
        frozenset({"ngram_baselines"}),
        ("size 0", *LARGE),
        "its counts are integers in a dictionary, of any size",
    ),
    (
        frozenset({"data_iterator"}),
        ("size 0", *LARGE),
        "its batches are made as by make_batch, its orders by epoch_order",
    ),
    (
        frozenset({"make_batch"}),
        ("size 0", *LARGE[3:]),
        "a sequence is not empty; beyond 2^8 nothing in it is counted",
    ),
    (frozenset({"sample_batch"}), ("size 0", "size 1"), "a text has at least one window"),
    (
        frozenset({"attention", "attention_backward", "rope", "rope_backward", "dropout", "layer_norm"})
        | {
            "layer_norm_backward",
            "rms_norm",
            "matmul",
            "gelu",
            "gelu_backward",
            "silu",
            "adamw_step",
            "softmax",
        },
        ("more than 2^16",),
        "beyond the largest chunk it computes entry by entry, and the cases of a run must take little time",
    ),
    (
        frozenset({"attention", "attention_backward"}),
        ("more than 2^8", "more than 2^10"),
        "its work grows with the square of the length; tiles of 64 and 128 keys are passed",
    ),
    (
        frozenset({"attention", "attention_backward", "rope", "rope_backward", "dropout", "layer_norm"})
        | {"layer_norm_backward", "rms_norm"},
        ("size 0",),
        "a row has at least one feature, and a batch one position; cross_entropy and make_batch are given rows of none",
    ),
    (
        frozenset(FLOATS - {"adamw_step", "clip_by_global_norm", "cross_entropy", "silu"}),
        ("beyond 1e30",),
        "squares and products of such numbers leave the range of float32",
    ),
    (
        frozenset({"adamw_step"}),
        ("beyond 1e30",),
        "the square of such a gradient leaves the range of float32",
    ),
    (LISTS | DRAWN | {"sample_batch"}, ("0",), "it takes no number that could be 0"),
    (
        frozenset(FLOATS - {"adamw_step", "clip_by_global_norm", "cross_entropy"}),
        ("0",),
        "0 is given among other numbers; alone it shows nothing that they do not",
    ),
    (frozenset({"silu"}), ("beyond 1e30",), "exp of such a number leaves the range of float32"),
    (
        frozenset({"tokenizer", "ngram_baselines"}),
        ("the same call twice",),
        "each call is compared with an oracle that keeps nothing",
    ),
    (frozenset({"sample_batch"}), ("Fortran's order",), "an array of one axis has one order"),
    (
        frozenset({"trainer", "own_trainer", "own_trainer.set_parameters"}),
        ("size 0", "size 1", *LARGE[:4], "a part of a buffer", "broadcast"),
        "a model has parameters; they are copied into it, and what is done with them shows in its methods",
    ),
    (
        frozenset(name for name in OF_BATCHES if name.startswith("own_trainer")),
        (*SIZES, *LAYOUTS, *INTEGERS, "0", "all masked"),
        "a loop of one's own model takes batches of the type that it says, as long as its context",
    ),
    (
        frozenset({"trainer.train", "trainer.evaluate"}),
        ("more than 2^10", "more than 2^16", "0"),
        "a row is at most 1024 long; counts and ids beyond 2^16 are those of many rows, and of the model",
    ),
    (
        frozenset({"own_trainer", "own_trainer.set_parameters"}),
        (*SIZES, *LAYOUTS),
        "its settings hold no array, and the parameters that it takes are those that it has handed out",
    ),
    (ASKED | FILES, (*SIZES, "the same call twice"), "it takes nothing that has a size"),
    (
        frozenset({"collate", "worker_stream"}),
        (*SIZES, "the same call twice"),
        "it is given the sizes at which counts and places of rows change their type",
    ),
    (
        CONTROL,
        (*SIZES, "the same call twice"),
        "it is made of settings; its methods are given numbers in time",
    ),
    (
        MIXED,
        (*LARGE, "0"),
        "the functions of one float type are given these sizes",
    ),
    (
        SIXTEEN | {"round_float8"},
        (*LARGE, "size 0", "size 1", "the same call twice"),
        "it computes entry by entry, or what the functions of single precision do, which are given these sizes",
    ),
    (PRODUCTS, ("float32 and float64",), "autocast is for float32"),
    (
        frozenset({"scaler", "recomputed_gradients"}),
        LAYOUTS,
        "its updates and its model are those of functions that are given these layouts",
    ),
    (
        WINDOWED,
        ("size 0", "more than 2^8", "more than 2^10", "more than 2^16", "0"),
        "as attention, whose sizes and values it is given",
    ),
    (OBJECTIVE, ("beyond 1e30", "0", "size 0"), "as cross_entropy, which is given these"),
    (
        frozenset({"progress_counters"}),
        (
            "a count beyond 2^16",
            "a count beyond 2^24",
            "size 0",
            "more than 2^10",
            "more than 2^16",
            "the same call twice",
        ),
        "its lists are those of a few epochs; their numbers are as large as counts of tokens are",
    ),
    (
        frozenset({"export"}),
        ("more than 2^10", "more than 2^16", "a part of a buffer", "read-only", "broadcast"),
        "it writes bytes in C order, and five other layouts are given",
    ),
    (
        MUON,
        ("size 0", *LARGE),
        "a matrix has entries; a simulated bound on the products of larger ones takes minutes",
    ),
    (frozenset({"parameter_groups"}), (*SIZES, *LAYOUTS, "float32 and float64"), "names, roles and settings"),
    (
        frozenset({"resumed_moments"}),
        (*SIZES, *LAYOUTS),
        "its gradients are copied into parameters; which of them are missing is what is asked",
    ),
    (frozenset({"orthogonalize_heads"}), ("size 1", "0"), "of a matrix of one entry there is one head"),
    (
        frozenset({"momentum_at", "weight_decay_at"}),
        ("a count beyond 2^16", "a count beyond 2^24"),
        "beyond the run it has one value",
    ),
)
"""(functions, kinds, the reason why these functions are not given these kinds)."""
MUST_BE_GIVEN = {
    "adamw_step": ("size 0", "0", "a count beyond 2^24", "Fortran's order", "more than 2^10"),
    "attention": ("more than 128", "all masked"),
    "clip_by_global_norm": ("size 0", "infinity", "read once", "more than 2^16"),
    "cross_entropy": ("size 0", "more than 2^16", "int8", "uint64", "all masked"),
    "dropout": ("seed 0", "a seed beyond 2^63", "a count beyond 2^24"),
    "epoch_order": ("seed 0", "a seed beyond 2^32"),
    "learning_rate": ("a count beyond 2^16",),
    "make_batch": ("size 1", "more than 2^8"),
    "perplexity": ("a count beyond 2^24",),
    "sample_batch": ("uint16", "read-only"),
    "mixed_adamw_step": ("size 0", "Fortran's order", "read-only"),
    "mixed_clip_by_global_norm": ("size 0", "negative strides"),
    "mixed_cross_entropy": ("size 0", "int8", "uint64", "all masked"),
    "trainer": ("seed 0", "a seed beyond 2^63", "Fortran's order", "more than 2^16"),
    "trainer.train": ("size 0", "int8", "uint64", "all masked", "broadcast"),
    "own_trainer": ("seed 0",),
    "worker_stream": ("seed 0", "a seed beyond 2^63"),
}
"""Kinds that public reports are about."""


def reason(function: str, kind: str) -> str:
    """Why the function is not given this kind of input; empty if it must be."""
    return next((why for names, kinds, why in REASONS if function in names and kind in kinds), "")


def rows() -> Iterator[str]:
    """A line for each function: its kinds, and the reasons for the others."""
    measured = inputs_given.record(ARGUMENTS)
    for function in ROWS:
        given = measured[function]
        yield f"{function}: {', '.join(kind for kind in KINDS if kind in given)}"
        for why in dict.fromkeys(reason(function, kind) for kind in KINDS if kind not in given):
            left_out = [kind for kind in KINDS if kind not in given and reason(function, kind) == why]
            yield f"    not {', '.join(left_out)}: {why or 'NO REASON'}"


if __name__ == "__main__":
    print("\n".join(rows()))
