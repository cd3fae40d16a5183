"""States of random generators: torch.Generator, numpy.random.Generator and RandomState, random.Random.

JAX's keys are arrays: hand `jax.random.key_data(key)` over as `extra`.
"""

import random
from typing import Any

import numpy as np

from honestloop.recorder.errors import RecorderError


def state_of(generator: Any, name: str) -> Any:
    """The state, of numbers, tuples and arrays. RecorderError for an object that is no generator."""
    if generator is random or isinstance(generator, random.Random):
        return generator.getstate()
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    if isinstance(generator, np.random.RandomState):
        return generator.get_state(legacy=False)
    if isinstance(generator, np.random.BitGenerator):
        return generator.state
    if _is_torch(generator):
        return generator.get_state()
    raise RecorderError(
        f"generators[{name!r}]: a {type(generator).__name__} is none of torch.Generator, numpy.random.Generator, "
        "random.Random"
    )


def restore(generator: Any, state: Any, name: str) -> None:
    """Put a state back into the generator. RecorderError if it is of another kind of generator."""
    try:
        if generator is random or isinstance(generator, random.Random):
            generator.setstate(state)
        elif isinstance(generator, np.random.Generator):
            generator.bit_generator.state = state
        elif isinstance(generator, np.random.RandomState):
            generator.set_state(state)
        elif isinstance(generator, np.random.BitGenerator):
            generator.state = state
        elif _is_torch(generator):
            generator.set_state(state)
        else:
            state_of(generator, name)
    except (TypeError, ValueError, LookupError, RuntimeError) as error:
        raise RecorderError(
            f"generators[{name!r}]: not the state of a {type(generator).__name__} ({error})"
        ) from None


def _is_torch(generator: Any) -> bool:
    return type(generator).__module__.partition(".")[0] == "torch" and hasattr(generator, "get_state")
