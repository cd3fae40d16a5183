"""Parameters and moments as plain arrays: {name: array}, and {"m": {name: array}, "v": {name: array}, "t": int}."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from honestloop.recorder.errors import RecorderError
from honestloop.recorder.json_state import decode, encode
from honestloop.recorder.snapshot import OPTIMIZER, WEIGHTS, Snapshot


def snapshot(parameters: Mapping[str, Any], optimizer: Mapping[str, Any]) -> Snapshot:
    """The arrays, and whatever else the optimizer holds, as JSON. RecorderError if a moment fits no parameter."""
    tensors = {}
    for kind in ("m", "v"):
        for name, moment in optimizer[kind].items():
            if name not in parameters:
                raise RecorderError(f"optimizer[{kind!r}][{name!r}]: there is no parameter of that name")
            if np.shape(moment) != np.shape(parameters[name]):
                raise RecorderError(
                    f"optimizer[{kind!r}][{name!r}]: has shape {np.shape(moment)}, "
                    f"the parameter {np.shape(parameters[name])}"
                )
            tensors[f"{kind}.{name}"] = moment
    others = {key: value for key, value in optimizer.items() if key not in ("m", "v")}
    if isinstance(others.get("t"), int | np.integer):
        tensors["t"] = np.int64(others["t"])
    files = {WEIGHTS: save(_own(parameters)), OPTIMIZER: save(_own(tensors))}
    names = {"parameters": list(parameters), "m": list(optimizer["m"]), "v": list(optimizer["v"])}
    return Snapshot("arrays", files, {"names": names, "others": encode(others, "optimizer")})


def restore(saved: Snapshot) -> tuple[dict[str, Any], dict[str, Any]]:
    """(parameters, optimizer) as `snapshot` was given them, arrays of NumPy, in the same order.

    The order matters: whoever adds up a norm over all parameters adds in that order.
    """
    tensors, weights, names = load(saved.files[OPTIMIZER]), load(saved.files[WEIGHTS]), saved.state["names"]
    moments = {kind: {name: tensors[f"{kind}.{name}"] for name in names[kind]} for kind in ("m", "v")}
    return {name: weights[name] for name in names["parameters"]}, moments | decode(saved.state["others"])


def _own(arrays: Mapping[str, Any]) -> dict[str, Any]:
    return {name: np.array(x, order="C") for name, x in arrays.items()}
