"""The global generators of a process, from which frameworks and their models draw."""

import random
from typing import Any

import numpy as np


def global_generators() -> dict[str, Any]:
    """By name: Python's, NumPy's, PyTorch's on the CPU."""
    import torch

    return {"python": random, "numpy": np.random.mtrand.get_bit_generator(), "torch": torch.default_generator}
