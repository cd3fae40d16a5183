"""Greedy decoding: the most likely token, the first of several, is appended until there are enough.

    id_k = argmax of the logits at the last position of prompt, id_0, ..., id_(k-1)

Here every token costs a pass over the whole text. A decoder that keeps the keys and values of earlier positions has the
same logits: position t is position t, whether it was decoded at once or after t others.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from reference.model import Config, Parameters, forward
from reference.sampling import first_largest


def generate(
    params: Parameters, prompt: Sequence[int], count: int, config: Config
) -> tuple[Int[np.ndarray, "n"], Float[np.ndarray, "n V"]]:
    """The `count` ids after a prompt of at least one token, and the logits that each was chosen by.

    ValueError for an empty prompt, and if prompt and all but the last id are more than the context.
    """
    if not prompt or len(prompt) + count - 1 > int(config["context"]):
        raise ValueError(
            f"{len(prompt)} tokens and {count} to come; the context is {config['context']}, from 1 on"
        )
    ids, chosen_by = list(prompt), []
    for _ in range(count):
        logits = forward(params, np.array([ids]), np.ones((1, len(ids)), dtype=bool), config)[0, -1]
        chosen_by.append(logits)
        ids.append(first_largest(logits))
    return np.array(ids[len(prompt) :], np.int64), np.stack(chosen_by)
