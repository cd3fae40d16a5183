"""Parameters and moments of a PyTorch module and its optimizer, by the names of `named_parameters`."""

from collections.abc import Iterator, Mapping
from typing import Any

from honestloop.recorder.errors import RecorderError
from honestloop.recorder.json_state import decode, encode
from honestloop.recorder.snapshot import BUFFERS, OPTIMIZER, WEIGHTS, Snapshot

MOMENTS = {"exp_avg": "m", "exp_avg_sq": "v"}
"""What torch.optim calls the moments of Adam, and their names in a checkpoint."""


def snapshot(model: Any, optimizer: Any, masters: Mapping[str, Any] | None = None) -> Snapshot:
    """Everything that changes in the two. `masters`: unrounded copies by name, where the optimizer updates these.

    A parameter that the optimizer has not updated yet has moments of 0. RecorderError for a parameter of the optimizer
    that has no name.
    """
    import torch
    from safetensors.torch import save

    updated = _updated(model, masters)
    names = {id(parameter): name for name, parameter in updated.items()}
    tensors: dict[str, Any] = {}
    steps: dict[str, Any] = {}
    others: dict[str, dict[str, Any]] = {}
    for group, parameter in _parameters_of(optimizer):
        if id(parameter) not in names:
            raise RecorderError(
                "the optimizer updates a tensor that is no parameter of the model: pass masters={name: tensor}"
            )
        name = names[id(parameter)]
        held = dict(optimizer.state.get(parameter, {}))
        if "betas" in group:
            for key in MOMENTS:
                held.setdefault(key, torch.zeros_like(parameter))
        for key, value in held.items():
            if key == "step":
                steps[name] = value
            elif torch.is_tensor(value) and value.shape == parameter.shape:
                tensors[f"{MOMENTS.get(key, key)}.{name}"] = value
            else:
                others.setdefault(name, {})[key] = encode(value, f"{name}: {key}")
    counts = {name: float(step) for name, step in steps.items()}
    if len(set(counts.values())) == 1:
        tensors["t"] = torch.tensor(int(next(iter(counts.values()))), dtype=torch.int64)
    counted = {str(step.dtype).removeprefix("torch.") for step in steps.values() if torch.is_tensor(step)}
    groups = [_group(group, names) for group in optimizer.param_groups]
    files = {WEIGHTS: save(_plain(updated)), OPTIMIZER: save(_plain(tensors))}
    if buffers := _buffers(model):
        files[BUFFERS] = save(_plain(buffers))
    state = {
        "steps": counts,
        "steps_dtype": next(iter(counted), None),
        "others": others,
        "param_groups": groups,
    }
    return Snapshot("torch", files, state)


def restore(model: Any, optimizer: Any, saved: Snapshot, masters: Mapping[str, Any] | None = None) -> None:
    """Put a snapshot back, in place and bit for bit. RecorderError if names, shapes, dtypes or groups differ."""
    import torch
    from safetensors.torch import load

    weights, moments = load(saved.files[WEIGHTS]), load(saved.files[OPTIMIZER])
    updated = _updated(model, masters)
    parameters, buffers = _named(model), _buffers(model)
    saved_buffers = load(saved.files[BUFFERS]) if BUFFERS in saved.files else {}
    _require_same(WEIGHTS, weights, updated)
    _require_same(BUFFERS, saved_buffers, buffers)
    _restore_groups(optimizer, saved.state["param_groups"], updated)
    with torch.no_grad():
        for name, value in weights.items():
            updated[name].copy_(value)
            if updated[name] is not parameters[name]:
                parameters[name].copy_(value)  # rounded, as after an update
        for name, value in saved_buffers.items():
            buffers[name].copy_(value)
    _restore_moments(optimizer, saved, moments, {id(x): name for name, x in updated.items()})


def _restore_moments(
    optimizer: Any, saved: Snapshot, moments: Mapping[str, Any], names: Mapping[int, str]
) -> None:
    """The state of each parameter that has been updated; the others have none, as before their first update."""
    steps, others = saved.state["steps"], saved.state["others"]
    back = {short: key for key, short in MOMENTS.items()}
    by_name: dict[str, dict[str, Any]] = {}
    for key, value in moments.items():
        kind, _, name = key.partition(".")
        by_name.setdefault(name, {})[back.get(kind, kind)] = value
    optimizer.state.clear()
    for group, parameter in _parameters_of(optimizer):
        name = names[id(parameter)]
        if name in steps or name in others:
            held = {key: decode(value) for key, value in others.get(name, {}).items()}
            if name in steps:
                held = {"step": _step(steps[name], saved.state["steps_dtype"], group, parameter), **held}
            tensors = {key: x.clone().to(parameter.device) for key, x in by_name.get(name, {}).items()}
            optimizer.state[parameter] = held | tensors


def _step(count: float, dtype: str | None, group: Mapping[str, Any], parameter: Any) -> Any:
    """Most optimizers count in a tensor; fused and capturable ones on the device of the parameter."""
    import torch

    if dtype is None:
        return int(count)
    on_device = group.get("fused") or group.get("capturable")
    return torch.tensor(count, dtype=getattr(torch, dtype), device=parameter.device if on_device else "cpu")


def _restore_groups(optimizer: Any, saved: list[dict[str, Any]], updated: Mapping[str, Any]) -> None:
    names = {id(parameter): name for name, parameter in updated.items()}
    held = [[names.get(id(p)) for p in group["params"]] for group in optimizer.param_groups]
    if held != [group["names"] for group in saved]:
        raise RecorderError("the optimizer's groups hold other parameters than those of the checkpoint")
    for group, said in zip(optimizer.param_groups, saved, strict=True):
        for key, value in said["options"].items():
            if hasattr(group.get(key), "fill_"):
                group[key].fill_(decode(value))
            else:
                group[key] = decode(value)


def _group(group: Mapping[str, Any], names: Mapping[int, str]) -> dict[str, Any]:
    options = {key: value for key, value in group.items() if key not in ("params", "param_names")}
    plain = {key: value.item() if _is_scalar(value) else value for key, value in options.items()}
    return {
        "names": [names[id(p)] for p in group["params"]],
        "options": {key: encode(value, f"param_groups: {key}") for key, value in plain.items()},
    }


def _is_scalar(value: Any) -> bool:
    return hasattr(value, "fill_") and value.ndim == 0


def _parameters_of(optimizer: Any) -> Iterator[tuple[dict[str, Any], Any]]:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            yield group, parameter


def _updated(model: Any, masters: Mapping[str, Any] | None) -> dict[str, Any]:
    """Name -> the tensor that the optimizer updates: the master copy where there is one."""
    named = _named(model)
    if unknown := sorted(set(masters or {}) - set(named)):
        raise RecorderError(f"masters[{unknown[0]!r}]: the model has no parameter of that name")
    return named | dict(masters or {})


def _named(model: Any) -> dict[str, Any]:
    """Name -> parameter, each once, without the prefixes of torch.compile and DistributedDataParallel."""
    return {_clean(name): parameter for name, parameter in model.named_parameters()}


def _buffers(model: Any) -> dict[str, Any]:
    """Name -> buffer that is saved with the module (running means; not tables that it makes anew)."""
    names = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    state = model.state_dict()
    return {_clean(name): x for name, x in state.items() if name not in names and hasattr(x, "detach")}


def _clean(name: str) -> str:
    return name.replace("_orig_mod.", "").removeprefix("module.")


def _plain(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """On the CPU, contiguous, in memory of their own."""
    return {name: x.detach().cpu().contiguous().clone() for name, x in tensors.items()}


def _require_same(file: str, saved: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    if missing := sorted(here.keys() ^ saved.keys()):
        where = "the model" if missing[0] in saved else "the checkpoint"
        raise RecorderError(f"{file}: {missing[0]}: {where} has no tensor of that name")
    for name, tensor in sorted(saved.items()):
        if tensor.shape != here[name].shape or tensor.dtype != here[name].dtype:
            raise RecorderError(
                f"{file}: {name}: the checkpoint has {tensor.dtype} {tuple(tensor.shape)}, "
                f"the model {here[name].dtype} {tuple(here[name].shape)}"
            )
