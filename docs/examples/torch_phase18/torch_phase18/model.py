"""MiniGPT: pre-LN blocks, rotary positions, exact GELU, a head tied to the embedding; 103,680 parameters."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torch_phase18 import chance

WIDTH, HEADS, LAYERS, INNER, VOCAB, CONTEXT = 64, 4, 2, 256, 64, 32
EPS, BASE, DEVIATION = 1e-5, 10000.0, 0.02


class Norm(nn.Module):
    """LayerNorm over the features."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma, self.beta = nn.Parameter(torch.empty(WIDTH)), nn.Parameter(torch.empty(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, (WIDTH,), self.gamma, self.beta, EPS)


class Attention(nn.Module):
    """Causal attention of 4 heads over the real positions."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("W_q", "W_k", "W_v", "W_o"):
            self.register_parameter(name, nn.Parameter(torch.empty(WIDTH, WIDTH)))

    def forward(self, x: Tensor, allowed: Tensor) -> Tensor:
        q, k, v = (
            (x @ weight).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for weight in (self.W_q, self.W_k, self.W_v)
        )
        scores = rotate(q) @ rotate(k).transpose(-1, -2) / math.sqrt(WIDTH // HEADS)
        mixed = scores.masked_fill(~allowed, -math.inf).softmax(-1) @ v
        return mixed.transpose(1, 2).flatten(2) @ self.W_o


class FeedForward(nn.Module):
    """Two linear maps with a GELU between them."""

    def __init__(self) -> None:
        super().__init__()
        self.W_1, self.b_1 = nn.Parameter(torch.empty(WIDTH, INNER)), nn.Parameter(torch.empty(INNER))
        self.W_2, self.b_2 = nn.Parameter(torch.empty(INNER, WIDTH)), nn.Parameter(torch.empty(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(x @ self.W_1 + self.b_1) @ self.W_2 + self.b_2


class Block(nn.Module):
    """The two branches of a block, each after its LayerNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.attn, self.ffn, self.ln1, self.ln2 = Attention(), FeedForward(), Norm(), Norm()


class MiniGPT(nn.Module):
    """Names and shapes of the parameters are those of the definition of done."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.E = nn.Parameter(torch.empty(VOCAB, WIDTH))
        for layer in range(LAYERS):
            self.add_module(f"block_{layer}", Block())
        self.ln_final = Norm()
        self.to(dtype)

    def layers(
        self, tokens: Tensor, real: Tensor, masks: Sequence[Tensor] = (), p: float = 0.0
    ) -> dict[str, Tensor]:
        """Every named layer, [B, T, features]; with `masks`, what they do not keep is dropped."""

        def drop(x: Tensor, site: int) -> Tensor:
            return torch.where(masks[site], x / (1.0 - p), 0.0) if masks else x

        length = tokens.shape[1]
        allowed = torch.ones(length, length, dtype=torch.bool).tril() & real[:, None, None, :]
        x = drop(F.embedding(tokens, self.E), 0)
        found = {"embed_out": x}
        for layer in range(LAYERS):
            block = self.get_submodule(f"block_{layer}")
            x = x + drop(block.attn(block.ln1(x), allowed), 1 + 2 * layer)
            x = x + drop(block.ffn(block.ln2(x)), 2 + 2 * layer)
            found[f"block_{layer}_out"] = x
        x = self.ln_final(x)
        return found | {"final_ln_out": x, "logits": F.linear(x, self.E)}

    def forward(self, tokens: Tensor, real: Tensor, **dropout: Any) -> Tensor:
        """Logits [B, T, V]."""
        return self.layers(tokens, real, **dropout)["logits"]

    def nll(self, batch: Any, **dropout: Any) -> Tensor:
        """-log p in nats of every predicted token of a batch, [tokens]."""
        logits = self(batch.tokens, batch.real, **dropout)
        return F.cross_entropy(logits[batch.real], batch.target[batch.real], reduction="none")


def rotate(x: Tensor) -> Tensor:
    """Rotary embedding of [B, H, T, K], pairing features i and i + K / 2."""
    length, size = x.shape[-2:]
    frequency = BASE ** (torch.arange(0, size, 2, dtype=torch.float64) * (-1.0 / size))
    angle = torch.outer(torch.arange(length, dtype=torch.float64), frequency)
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def is_matrix(name: str) -> bool:
    """Whether a parameter is drawn at the start, and decays: the embedding and every W."""
    return name == "E" or name.rpartition(".")[2].startswith("W_")


@torch.no_grad()
def initialise(model: MiniGPT, seed: str) -> None:
    """Matrices from N(0, 0.02), gains 1, the rest 0."""
    draws = chance.generator(seed, "weights")
    for name, x in model.named_parameters():
        if is_matrix(name):
            x.copy_(torch.empty(x.shape, dtype=torch.float64).normal_(0.0, DEVIATION, generator=draws))
        else:
            x.fill_(float(name.endswith("gamma")))


@torch.no_grad()
def exact(weights: dict[str, Tensor]) -> MiniGPT:
    """The same weights in float64: what final numbers are computed with."""
    model = MiniGPT(torch.float64)
    model.load_state_dict({name: x.to(torch.float64) for name, x in weights.items()})
    return model


@torch.no_grad()
def row_by_row(model: MiniGPT, tokens: Tensor, real: Tensor) -> Tensor:
    """Logits [N, T, V], each row computed by itself, so that no bit of it depends on where in a batch it stands."""
    return torch.cat([model(tokens[i : i + 1], real[i : i + 1]) for i in range(len(tokens))])
