"""Everything random: torch.Generator (mt19937), seeded anew for each thing that is drawn.

A generator is a function of (seed, what it is for, number), so that nothing but counters needs to be saved, and the
masks of any update can be drawn again. torch uses 32 bits of a seed; they are the first of a SHA-256.
"""

import torch
from torch import Tensor

from torch_phase18.files import sha256

ALGORITHM = "torch.Generator (mt19937)"
SEEDING = (
    'the first 32 bits of SHA-256("SEED/STREAM/NUMBER"), for each epoch, each update and the first weights'
)
SITES = 5  # the embedding, then the attention and the FFN branch of both blocks


def generator(seed: str, stream: str, number: int = 0) -> torch.Generator:
    """The generator of a stream: "weights", "order" (one an epoch) or "dropout" (one an update)."""
    made = torch.Generator()
    made.manual_seed(int(sha256(f"{seed}/{stream}/{number}".encode())[:8], 16))
    return made


def order(seed: str, rows: int, epoch: int) -> list[int]:
    """The order of the training sequences in an epoch, counted from 0."""
    return torch.randperm(rows, generator=generator(seed, "order", epoch)).tolist()


def masks(seed: str, update: int, p: float, shape: tuple[int, int, int]) -> list[Tensor]:
    """What dropout keeps in an update, counted from 1: for each site a bool [B, T, D]."""
    draws = generator(seed, "dropout", update)
    return [torch.rand(shape, generator=draws, dtype=torch.float64) >= p for _ in range(SITES)]
