"""Where a function of the protocol stands in the chain of a training loop, and which of its results is wrong first."""

from collections.abc import Sequence

import numpy as np

from fixtures.diagnosis_words import Place
from honestloop.conventions import Conventions
from honestloop.guard import Call, Raised
from properties.diagnosis.candidate import Candidate, bounded
from properties.diagnosis.quantities import near
from reference.bounds import named_arrays

RESULTS: dict[str, dict[str, Place]] = {
    "cross_entropy": {"[0]": Place.LOSS, "[1]": Place.GRADIENT},
    "clip_by_global_norm": {"[1]": Place.NORM, "[0]": Place.CLIPPING},
    "adamw_step": {"[1]": Place.FIRST_MOMENT, "[2]": Place.SECOND_MOMENT, "[0]": Place.UPDATE},
    "loss_and_gradients": {"[0]": Place.LOSS, "[1]": Place.GRADIENT},
    "softmax": {"": Place.LOSS},
    "gelu": {"": Place.ACTIVATION},
    "gelu_backward": {"": Place.GRADIENT},
    "silu": {"": Place.ACTIVATION},
    "layer_norm": {"": Place.NORMALISATION},
    "rms_norm": {"": Place.NORMALISATION},
    "layer_norm_backward": {"": Place.GRADIENT},
    "rope": {"": Place.LOGITS},
    "rope_backward": {"": Place.GRADIENT},
    "attention": {"": Place.LOGITS},
    "attention_backward": {"": Place.GRADIENT},
    "matmul": {"": Place.LOGITS},
    "forward": {"": Place.LOGITS},
    "dropout": {"": Place.DROPOUT},
    "learning_rate": {"": Place.RATE},
    "decays": {"": Place.DECAY},
    "initial_parameters": {"": Place.START},
    "epoch_order": {"": Place.ORDER},
    "perplexity": {"": Place.EVALUATION},
    "round_weights": {"": Place.CHECKPOINT},
    "data_iterator": {"": Place.ROWS},
    "sample_batch": {"": Place.ROWS},
    "make_batch": {"[0]": Place.ROWS, "[1]": Place.TARGETS, "": Place.MASK},
}
"""Function -> the beginning of a result's name -> its place, in the order of the chain. "" is any result."""


def place_in_function(function: str, calls: Sequence[Call], conventions: Conventions) -> Place | None:
    """The first result that is not the oracle's, as a place; None for a function outside the chain.

    None for a call that does more than return: its numbers are not what is wrong."""
    places = RESULTS.get(function)
    if places is None or any(call.effects for call in calls):
        return None
    if list(places) == [""]:
        return places[""]
    wrong = wrong_results(function, calls, conventions)
    return next(
        (place for start, place in places.items() if any(name.startswith(start) for name in wrong)), None
    )


def wrong_results(function: str, calls: Sequence[Call], conventions: Conventions) -> set[str]:
    """Names of the results that are beyond the bounds of the oracle's, in any call."""
    oracle = Candidate.oracle(function, conventions)
    with np.errstate(all="ignore"):
        try:
            expected = list(bounded(oracle.formula, calls, conventions))
        except Exception:  # a function without floats has no bound: its results are exact
            expected = [oracle.function(*call.args, **call.kwargs) for call in calls]
    found: set[str] = set()
    for call, right in zip(calls, expected, strict=True):
        if isinstance(call.result, Raised):
            continue
        allowed = dict(named_arrays(right))
        found |= {n for n, x in named_arrays(call.result) if n not in allowed or not near(x, allowed[n])}
    return found
