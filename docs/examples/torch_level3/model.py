"""A small GPT over characters, and the mean loss of some rows of the text."""

import torch
import torch.nn.functional as F
from torch import nn

BOS, EOS, CONTEXT = 0, 1, 28
IGNORED = -100


class Block(nn.Module):
    """Attention and a feed-forward layer, each added to what comes in."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x):
        rows, length, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(rows, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        seen = torch.ones(length, length, dtype=torch.bool).tril()
        scores = (q @ k.transpose(-1, -2)) * (width // self.heads) ** -0.5
        attention = scores.masked_fill(~seen, float("-inf")).softmax(-1)
        x = x + self.out((attention @ v).transpose(1, 2).reshape(rows, length, width))
        return x + self.feed(self.norm2(x))


class GPT(nn.Module):
    """Logits [B, T, V] of the next token, from tokens [B, T]. Padding is at the end, where no earlier token looks."""

    def __init__(self, vocab, width=32, heads=4, layers=2):
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocab, width), nn.Embedding(CONTEXT, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocab, bias=False)

    def forward(self, tokens):
        x = self.tokens(tokens) + self.places.weight[: tokens.shape[1]]
        return self.head(self.norm(self.blocks(x)))


class Text:
    """The rows of a file, one a line, as ids of characters."""

    def __init__(self, folder):
        self.train, self.val = (
            (folder / f"{name}.txt").read_text("utf-8").splitlines() for name in ("train", "val")
        )
        self.letters = sorted(set("".join(self.train)))
        self.ids = {letter: number for number, letter in enumerate(self.letters, 2)}
        self.vocab = len(self.letters) + 2

    def encode(self, text):
        return [self.ids[letter] for letter in text]

    def decode(self, ids):
        return "".join(self.letters[i - 2] for i in ids if i > EOS)

    def batch(self, lines):
        """(tokens [B, T], targets [B, T]) of some lines; targets in the padding are IGNORED."""
        rows = [[BOS, *self.encode(line), EOS] for line in lines]
        longest = max(map(len, rows)) - 1
        tokens = torch.tensor([row[:-1] + [EOS] * (longest - len(row) + 1) for row in rows])
        targets = torch.tensor([row[1:] + [IGNORED] * (longest - len(row) + 1) for row in rows])
        return tokens, targets


def loss_sum(model, tokens, targets):
    """Summed over the predicted tokens, in nats; whoever calls divides by the tokens of all micro-batches."""
    return F.cross_entropy(
        model(tokens).flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum"
    )


def mean_loss(model, text, lines, size=32):
    """The mean over the predicted tokens of all these lines."""
    total, count = 0.0, 0
    for start in range(0, len(lines), size):
        tokens, targets = text.batch(lines[start : start + size])
        total += loss_sum(model, tokens, targets).item()
        count += int((targets != IGNORED).sum())
    return total / count
