"""Parameters and moments of an optax optimizer: `ScaleByAdamState` is looked for anywhere in its state.

Names are the paths in the tree of the parameters: {"layer": {"w": ...}} is "layer.w". What else the state holds (counts
of schedules, hyper-parameters that are injected) is kept by its place, so that all of it comes back.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from honestloop.recorder.errors import RecorderError
from honestloop.recorder.json_state import decode, encode
from honestloop.recorder.snapshot import OPTIMIZER, WEIGHTS, Snapshot


def snapshot(parameters: Any, state: Any) -> Snapshot:
    """The leaves of the parameters and of the optimizer's state. RecorderError if no part of it holds mu and nu."""
    from safetensors.numpy import save

    weights = dict(_leaves(parameters))
    tensors: dict[str, np.ndarray] = {}
    others: dict[str, Any] = {}
    for name, value in _named_state(parameters, state):
        if name.startswith("state.") and value.ndim == 0:
            others[name] = {"dtype": str(value.dtype), "value": encode(value.item(), name)}
        else:
            tensors[name] = value
    counts = {int(adam.count) for adam in _adam_states(state)}
    if not counts:
        raise RecorderError("the optimizer's state holds no ScaleByAdamState (mu, nu, count)")
    if len(counts) == 1:
        tensors["t"] = np.array(counts.pop(), np.int64)
    files = {WEIGHTS: save(_own(weights)), OPTIMIZER: save(_own(tensors))}
    return Snapshot("optax", files, {"others": others})


def restore(parameters: Any, state: Any, saved: Snapshot) -> tuple[Any, Any]:
    """(parameters, state) with the saved numbers, in the structure of those given. RecorderError if they do not fit."""
    import jax
    from safetensors.numpy import load

    weights = load(saved.files[WEIGHTS])
    held = load(saved.files[OPTIMIZER])
    for name, one in saved.state["others"].items():
        held[name] = np.array(decode(one["value"]), np.dtype(one["dtype"]))
    names = [name for name, _ in _leaves(parameters)]
    state_names = [name for name, _ in _named_state(parameters, state)]
    new = [
        _fitting(name, weights, like) for name, like in zip(names, jax.tree.leaves(parameters), strict=True)
    ]
    new_state = [
        _fitting(name, held, like) for name, like in zip(state_names, jax.tree.leaves(state), strict=True)
    ]
    return (
        jax.tree.unflatten(jax.tree.structure(parameters), new),
        jax.tree.unflatten(jax.tree.structure(state), new_state),
    )


def _fitting(name: str, saved: Mapping[str, np.ndarray], like: Any) -> Any:
    import jax.numpy as jnp

    if name not in saved:
        raise RecorderError(f"{name}: the checkpoint has no tensor of that name")
    value = saved[name]
    if value.shape != np.shape(like) or value.dtype != np.asarray(like).dtype:
        here = f"{np.asarray(like).dtype} {np.shape(like)}"
        raise RecorderError(f"{name}: the checkpoint has {value.dtype} {value.shape}, here it is {here}")
    return jnp.asarray(value) if isinstance(like, _array_type()) else value


def _array_type() -> Any:
    import jax

    return jax.Array


def _leaves(tree: Any) -> list[tuple[str, np.ndarray]]:
    """(dotted path, array) of each leaf."""
    import jax

    found, _ = jax.tree_util.tree_flatten_with_path(tree)
    names = [_dotted(path) or "parameters" for path, _ in found]
    named = [(name, _numpy(name, leaf)) for name, (_, leaf) in zip(names, found, strict=True)]
    if len({name for name, _ in named}) != len(named):
        raise RecorderError("two leaves of the tree have the same dotted path")
    return named


def _named_state(parameters: Any, state: Any) -> list[tuple[str, np.ndarray]]:
    """(name, array) of each leaf of the state, in its order: m.NAME, v.NAME, or state.PATH for all others."""
    import jax

    known = {name for name, _ in _leaves(parameters)}
    named = []
    for path, node in jax.tree_util.tree_flatten_with_path(state, is_leaf=_is_adam)[0]:
        for inner, leaf in jax.tree_util.tree_flatten_with_path(node)[0]:
            kind = {"mu": "m", "nu": "v"}.get(_key(inner[0])) if inner and _is_adam(node) else None
            place = ".".join(_key(key) for key in inner[1:]) or "parameters"
            name = f"{kind}.{place}" if kind and place in known else "state." + _dotted((*path, *inner))
            named.append((name, _numpy(name, leaf)))
    if len({name for name, _ in named}) != len(named):
        raise RecorderError("two parts of the optimizer's state hold moments of the same parameter")
    return named


def _adam_states(state: Any) -> list[Any]:
    import jax

    return [node for node in jax.tree_util.tree_leaves(state, is_leaf=_is_adam) if _is_adam(node)]


def _is_adam(node: Any) -> bool:
    return all(hasattr(node, name) for name in ("mu", "nu", "count"))


def _key(key: Any) -> str:
    """The bare name of a part of a path: a key of a dict, an index, an attribute."""
    for attribute in ("key", "idx", "name"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)


def _dotted(path: Any) -> str:
    return ".".join(_key(key) for key in path)


def _numpy(name: str, leaf: Any) -> np.ndarray:
    """The array in NumPy, which has no bfloat16. RecorderError for that."""
    array = np.asarray(leaf)
    if array.dtype.isbuiltin != 1:
        raise RecorderError(f"{name}: hand over the unrounded float32 copy, not one of {array.dtype}")
    return array


def _own(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: np.array(x, order="C") for name, x in arrays.items()}
