"""JSON Schemas (draft 2020-12) of the files of a run directory, and what a value does not keep of one, in plain words.

`NAME.json` is the form of every recorded run; `phase18_NAME.json` is what a run of MiniGPT on the corpus has as well.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from honestloop.guarded_files import printable

GENERAL = ("manifest", "train_log", "checkpoint_manifest", "checkpoint_state", "results")
"""Files of every recorded run."""
PHASE_18 = (
    *(f"phase18_{name}" for name in GENERAL),
    "phase18_data",
    "phase18_tokenizer",
    "phase18_drift_results",
    "phase18_config",
)
A_KIND = {
    "object": "an object",
    "array": "a list",
    "string": "text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "null": "null",
}
LIMITS = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "exclusiveMinimum": "more than {}",
    "exclusiveMaximum": "less than {}",
    "const": "{!r}",
    "pattern": "text that matches {}",
    "minLength": "text that is not empty",
    "minItems": "at least {} in the list",
    "maxItems": "at most {} in the list",
    "minProperties": "an object that is not empty",
}


@dataclass(frozen=True)
class Deviation:
    """A field of a value that is not as its schema says; `field` is its dotted path, "" for the value itself."""

    field: str
    found: str
    expected: str


@cache
def schema(name: str) -> dict[str, Any]:
    """The schema of that name."""
    text = (resources.files(__name__) / f"{name}.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def deviations(name: str, value: Any) -> Iterator[Deviation]:
    """What a value does not keep of a schema, in the order of its fields; numbers that are not finite come first."""
    yield from _not_finite(value, ())
    errors = sorted(_validator(name).iter_errors(value), key=lambda error: [str(key) for key in error.path])
    yield from dict.fromkeys(_deviation(error) for error in errors)


def shown(value: Any) -> str:
    """A value, on one line and short."""
    if isinstance(value, dict | list) and len(value) > 20:
        return f"{A_KIND['object' if isinstance(value, dict) else 'array']} of {len(value)}"
    text = printable(json.dumps(value, ensure_ascii=False))
    return text if len(text) <= 80 else text[:77] + "..."


@cache
def _validator(name: str) -> Any:
    import jsonschema
    from referencing import Registry, Resource

    every = [schema(each) for each in (*GENERAL, *PHASE_18)]
    registry: Any = Registry().with_resources([(each["$id"], Resource.from_contents(each)) for each in every])
    return jsonschema.Draft202012Validator(schema(name), registry=registry)


def _not_finite(value: Any, path: tuple[Any, ...]) -> Iterator[Deviation]:
    if isinstance(value, float) and not abs(value) < float("inf"):
        yield Deviation(_dotted(path), shown(value), "a finite number")
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _not_finite(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _not_finite(inner, (*path, index))


def _deviation(error: Any) -> Deviation:
    """What one error of jsonschema says, in the words of a complaint."""
    path = tuple(error.absolute_path)
    if error.validator == "required":
        name = next(name for name in error.validator_value if name not in error.instance)
        described = error.schema.get("properties", {}).get(name, {}).get("description", "the field")
        return Deviation(_dotted((*path, name)), "nothing", described)
    if error.validator == "additionalProperties":
        known = error.schema.get("properties", {})
        name = next((name for name in error.instance if name not in known), "")
        return Deviation(_dotted((*path, name)), shown(error.instance.get(name)), f"only {', '.join(known)}")
    if error.validator == "anyOf":
        return _none_of(error, path)
    if error.validator == "type":
        return Deviation(_dotted(path), shown(error.instance), A_KIND[error.validator_value])
    if error.validator == "enum":
        return Deviation(_dotted(path), shown(error.instance), " or ".join(map(shown, error.validator_value)))
    limit = LIMITS.get(error.validator, f"{error.validator} {{}}")
    return Deviation(_dotted(path), shown(error.instance), limit.format(error.validator_value))


def _none_of(error: Any, path: tuple[Any, ...]) -> Deviation:
    """Of alternatives: the fault of the one that is of the value's type, or all of them."""
    branches = error.validator_value
    if all(set(branch) == {"required"} for branch in branches):
        fields = [branch["required"][0] for branch in branches]
        return Deviation(_dotted((*path, fields[0])), "nothing", f"one of {', '.join(fields)}")
    nearer = [inner for inner in error.context if inner.validator != "type" or len(inner.path) > 0]
    if nearer:
        return _deviation(max(nearer, key=lambda inner: len(inner.path)))
    kinds = [A_KIND.get(str(branch.get("type")), "something else") for branch in branches]
    return Deviation(_dotted(path), shown(error.instance), " or ".join(kinds))


def _dotted(path: tuple[Any, ...]) -> str:
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)
    return printable(text.removeprefix(".")[:200])
