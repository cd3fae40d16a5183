"""What a checkpoint holds of a model and its optimizer, whatever library they are of."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

WEIGHTS, OPTIMIZER, BUFFERS = "weights.safetensors", "optimizer.safetensors", "buffers.safetensors"


@dataclass(frozen=True)
class Snapshot:
    """`kind` ("torch", "optax", "arrays"), the bytes of the safetensors files by name, and the rest as JSON."""

    kind: str
    files: Mapping[str, bytes]
    state: Mapping[str, Any]
